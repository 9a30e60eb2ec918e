#include "trainer/touched_rows.h"

#include <gtest/gtest.h>

#include <cstring>

namespace vkqat {
namespace {

// Two ranks, of which this is one: what all_gather() gives is set by the test.
class TwoRanks : public Communicator {
public:
    explicit TwoRanks(std::vector<int32_t> all) : all_(std::move(all)) { size_ = node_size_ = 2; }
    void all_reduce_sum(std::span<float>) override {}
    void all_reduce_sum(std::span<double>) override {}
    void all_reduce_sum(std::span<int64_t>) override {}
    void broadcast(std::span<std::byte>) override {}
    std::vector<std::byte> all_gather(std::span<const std::byte>) override {
        std::vector<std::byte> bytes(all_.size() * 4);
        std::memcpy(bytes.data(), all_.data(), bytes.size());
        return bytes;
    }
    void barrier() override {}
    void check_peers() const override {}
    void leave() override {}

private:
    std::vector<int32_t> all_;
};

std::vector<std::vector<uint64_t>> pieces(const TouchedRows& touched, const Stretch& of) {
    std::vector<std::vector<uint64_t>> found;
    for (const auto& [s, ranks] : touched.pieces(of)) {
        EXPECT_EQ(s.block, of.block);
        found.push_back({s.first, s.count, ranks});
    }
    return found;
}

using Pieces = std::vector<std::vector<uint64_t>>;

TEST(TouchedRows, AreThoseOfTheTokensOfEachRank) {
    // Block 1: 20 other numbers, a matrix of 10 rows of 4, 7 other numbers.
    TouchedRows touched({.block = 1, .first = 20, .rows = 10, .cols = 4}, 2);
    std::vector<int32_t> own{3, 5, 3, 9};
    TwoRanks ranks({3, 5, 3, 9, 5, 6, 6, -1});
    touched.gather(ranks, own);
    EXPECT_EQ(pieces(touched, {1, 0, 67}), (Pieces{{0, 20, 3}, {32, 4, 1}, {40, 4, 3}, {44, 4, 2}, {56, 4, 1}, {60, 7, 3}}));
    EXPECT_EQ(pieces(touched, {0, 0, 67}), (Pieces{{0, 67, 3}})) << "another block";
    EXPECT_EQ(pieces(touched, {1, 34, 8}), (Pieces{{34, 2, 1}, {40, 2, 3}})) << "a stretch that begins and ends within rows";
    EXPECT_EQ(pieces(touched, {1, 58, 4}), (Pieces{{58, 2, 1}, {60, 2, 3}}));
    EXPECT_EQ(pieces(touched, {1, 24, 8}), Pieces{});

    TwoRanks later({0, 0, 0, 0, 1, 1, 1, 1000});
    touched.gather(later, own);
    EXPECT_EQ(pieces(touched, {1, 16, 20}), (Pieces{{16, 4, 3}, {20, 4, 1}, {24, 4, 2}})) << "of the last step only";
}

TEST(TouchedRows, NeighboursOfTheSameRanksAreOnePiece) {
    TouchedRows touched({.block = 0, .first = 0, .rows = 8, .cols = 2}, 2);
    std::vector<int32_t> own{1, 2, 3};
    TwoRanks ranks({1, 2, 3, 3, 2, 6});
    touched.gather(ranks, own);
    EXPECT_EQ(pieces(touched, {0, 0, 16}), (Pieces{{2, 2, 1}, {4, 4, 3}, {12, 2, 2}}));
}

TEST(TouchedRows, WithoutAMatrixEverythingIsTouched) {
    TouchedRows touched({}, 2);
    std::vector<int32_t> own{1};
    TwoRanks ranks({1, 2});
    touched.gather(ranks, own);
    EXPECT_EQ(pieces(touched, {0, 5, 100}), (Pieces{{5, 100, 3}}));
}

}  // namespace
}  // namespace vkqat
