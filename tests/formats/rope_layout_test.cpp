#include "runtime/formats/rope_layout.h"

#include <gtest/gtest.h>

#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

std::vector<std::byte> row_bytes(std::initializer_list<int> rows) {
    std::vector<std::byte> result;
    for (int row : rows) result.insert(result.end(), 3, std::byte(row));  // rows of three bytes
    return result;
}

TEST(RopeLayout, FirstElementsOfThePairsComeFirstInEachHead) {
    std::vector<std::byte> interleaved = row_bytes({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    std::vector<std::byte> split = row_bytes({0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11});
    EXPECT_EQ(interleaved_to_split_halves(interleaved, 12, 2), split);
    EXPECT_EQ(split_halves_to_interleaved(split, 12, 2), interleaved);
}

TEST(RopeLayout, RefusesRowsThatAreNoWholePairs) {
    std::vector<std::byte> weight(12);
    EXPECT_CONTAINS(error_of([&] { interleaved_to_split_halves(weight, 12, 5); }), "12 rows do not divide into 5 heads");
    EXPECT_CONTAINS(error_of([&] { interleaved_to_split_halves(weight, 12, 4); }), "even number");
    EXPECT_CONTAINS(error_of([&] { interleaved_to_split_halves(weight, 12, 0); }), "0 heads");
    EXPECT_CONTAINS(error_of([&] { interleaved_to_split_halves(weight, 8, 2); }), "12 bytes do not divide into 8 rows");
}

}  // namespace
}  // namespace vkqat
