// The rows of the embedding's gradient that a step touches: those of the tokens that occur. All others are zero on every rank and
// need not be exchanged: of a vocabulary of 128,256 some thousand rows occur in a step.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "trainer/buckets.h"
#include "trainer/communicator.h"

namespace vkqat {

// A matrix within a flat block.
struct RowMatrix {
    size_t block = 0;
    uint64_t first = 0;  // element of the block
    uint64_t rows = 0, cols = 0;
};

class TouchedRows {
public:
    static constexpr int most_ranks = 64;
    // No matrix: everything is touched by all.
    TouchedRows(const RowMatrix& matrix, int ranks) : matrix_(matrix), ranks_(ranks) {}

    // The rows that this step touches on each rank. Collective; `ids` are as many on every rank, and those that are no row count
    // for nothing.
    void gather(Communicator& ranks, std::span<const int32_t> ids);

    struct Piece {
        Stretch stretch;
        uint64_t ranks;  // bit r: rank r has gradients there
    };
    // What is touched of a stretch, in order; neighbours that the same ranks touch are one piece.
    std::vector<Piece> pieces(const Stretch& of) const;

private:
    RowMatrix matrix_;
    int ranks_;
    std::vector<std::pair<uint64_t, uint64_t>> rows_;  // sorted: a row, and the ranks that touch it
};

}  // namespace vkqat
