// Random numbers that are the same on every platform: the standard fixes what std::mt19937_64 returns, but not what its
// distributions make of it.
#pragma once

#include <cstdint>
#include <random>

namespace vkqat {

// A bijective mix of 64 bits (the finalizer of splitmix64).
inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// Uniform in [0, count), count > 0, without bias.
inline uint64_t uniform_below(std::mt19937_64& random, uint64_t count) {
    uint64_t threshold = (0 - count) % count;  // 2^64 mod count: that many values are too many
    while (true) {
        uint64_t x = random();
        if (x >= threshold) return x % count;
    }
}

// A pseudo-random permutation of [0, count) that is evaluated at any index without a table: a Feistel network over the
// smallest even number of bits that holds count, walked until it falls below count (at most 4 steps on average).
class Permutation {
public:
    Permutation(uint64_t count, uint64_t key) : count_(count), key_(key) {
        while (half_bits_ < 31 && (uint64_t(1) << (2 * half_bits_)) < count) ++half_bits_;
        if (half_bits_ == 31 && (uint64_t(1) << 62) < count) half_bits_ = 32;
    }
    // index < count
    uint64_t operator()(uint64_t index) const {
        do {
            index = round_trip(index);
        } while (index >= count_);
        return index;
    }

private:
    uint64_t round_trip(uint64_t x) const {
        uint64_t mask = (uint64_t(1) << half_bits_) - 1;
        uint64_t left = x >> half_bits_, right = x & mask;
        for (uint64_t round = 0; round < 6; ++round) {
            uint64_t next = left ^ (mix64(key_ ^ mix64(right + (round << 32))) & mask);
            left = right;
            right = next;
        }
        return left << half_bits_ | right;
    }
    uint64_t count_, key_;
    unsigned half_bits_ = 1;
};

}  // namespace vkqat
