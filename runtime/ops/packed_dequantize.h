// Packed weights as floats, at the speed of memory.
#pragma once

#include "runtime/graph/graph.h"
#include "runtime/ops/packed_linear.h"

namespace vkqat {

// Tiles of a layer, and their rows of W: those of all parts, one after the other.
struct TileRange {
    int64_t first_tile = 0, tiles = 0;
    int64_t first_row = 0, rows = 0;
};
// Error unless the layer has these tiles.
TileRange tile_range(const PackedLayer& w, int64_t first_tile, int64_t tiles);

// Whether the device has the shared memory, and the weight's blocks are multiples of 8 columns.
bool can_dequantize_tiles(const Capabilities& device, const PackedLayer& w);

// weight = factor * W's rows of the range. weight f32, f16 or bf16 [range.rows, in], at a multiple of 16 bytes. The product of
// centroid, scale and factor (a power of two, so that it is exact) is rounded to weight's type. Errors: shapes and types; a layer
// that can_dequantize_tiles() refuses.
void dequantize_tiles(Graph& g, const PackedLayer& w, const TileRange& range, float factor, Tensor weight,
                      const std::string& label);

}  // namespace vkqat
