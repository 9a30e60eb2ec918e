// The extents of a tensor, outermost first, row-major, at most four.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/support/error.h"

namespace vkqat {

class Shape {
public:
    Shape() = default;
    Shape(std::initializer_list<int64_t> extents) {
        if (extents.size() > 4) fail("a tensor has at most 4 dimensions, not {}", extents.size());
        for (int64_t e : extents) {
            if (e < 0) fail("a tensor cannot have {} elements along a dimension", e);
            extents_[rank_++] = e;
        }
    }
    int rank() const { return rank_; }
    int64_t operator[](int i) const { return extents_[i < 0 ? rank_ + i : i]; }
    int64_t elements() const {
        int64_t n = 1;
        for (int i = 0; i < rank_; i++) n *= extents_[i];
        return n;
    }
    int64_t cols() const { return rank_ ? extents_[rank_ - 1] : 1; }   // the last extent
    int64_t rows() const { return cols() ? elements() / cols() : 0; }  // the product of all others
    bool operator==(const Shape&) const = default;
    std::string text() const {
        std::string s = "[";
        for (int i = 0; i < rank_; i++) s += fmt::format("{}{}", i ? ", " : "", extents_[i]);
        return s + "]";
    }

private:
    std::array<int64_t, 4> extents_ = {};
    int rank_ = 0;
};

}  // namespace vkqat
