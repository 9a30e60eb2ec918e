#include "runtime/ops/packed_dequantize.h"

#include <algorithm>

#include "runtime/ops/launch.h"
#include "shaders/args/packed_dequantize.h"

namespace vkqat {
namespace {

constexpr uint32_t runs_at_once = 16;

uint32_t table_copies(int bits) { return std::min(32u, 2048u >> bits); }

uint32_t shared_bytes(int bits) { return 8 * uint32_t(bits) * (runs_at_once + 1) * 16 + (table_copies(bits) << bits) * 4; }

}  // namespace

TileRange tile_range(const PackedLayer& w, int64_t first_tile, int64_t tiles) {
    const PackedParts parts = packed_parts(w);
    if (first_tile < 0 || tiles < 1 || first_tile + tiles > parts.tiles)
        fail("tiles {} to {} of a packed weight of {}", first_tile, first_tile + tiles, parts.tiles);
    auto rows_before = [&](int64_t tile) {
        int64_t rows = 0;
        for (size_t i = 0; i < parts.rows.size(); i++)
            rows += std::clamp<int64_t>((tile - parts.first_tile[i]) * 32, 0, parts.rows[i]);
        return rows;
    };
    const int64_t first_row = rows_before(first_tile);
    return {first_tile, tiles, first_row, rows_before(first_tile + tiles) - first_row};
}

bool can_dequantize_tiles(const Capabilities& device, const PackedLayer& w) {
    return w.block_size % 8 == 0 && device.max_workgroup_invocations >= 256 && device.shared_memory_bytes >= shared_bytes(w.bits);
}

void dequantize_tiles(Graph& g, const PackedLayer& w, const TileRange& range, float factor, Tensor weight,
                      const std::string& label) {
    const PackedExtents extents = packed_extents(w.rows, w.in, w.bits, w.block_size);
    check_packed(w, label);
    if (!is_float(weight.dtype())) fail("{}: a weight cannot be {}", label, name(weight.dtype()));
    const TileRange known = tile_range(w, range.first_tile, range.tiles);
    expect(weight, {known.rows, w.in}, weight.dtype(), label);
    if (!aligned(g, weight, 16)) fail("{}: '{}' is not aligned", label, weight.name());
    if (!can_dequantize_tiles(g.capabilities(), w))
        fail(
            "{}: whole tiles are unpacked on devices with workgroups of 256 and for blocks of a multiple of 8; {} and blocks of "
            "{} are "
            "not of them",
            label, g.capabilities().name, w.block_size);
    const PackedParts parts = packed_parts(w);
    g.dispatch(
        Kernel{fmt::format("packed_dequantize_tiles_{}", name(weight.dtype())),
               {256, uint32_t(w.bits), runs_at_once, table_copies(w.bits)}},
        {in(w.indices), in(w.scales), in(w.centroids), out(weight)},
        DequantizeTilesArgs{.in_cols = uint32_t(w.in),
                            .block_size = uint32_t(w.block_size),
                            .tiles_1 = parts.first_tile[1],
                            .tiles_2 = parts.first_tile[2],
                            .rows_0 = parts.rows[0],
                            .rows_1 = parts.rows[1],
                            .rows_2 = parts.rows[2],
                            .first_tile = uint32_t(known.first_tile),
                            .tiles = uint32_t(known.tiles),
                            .first_row = uint32_t(known.first_row),
                            .factor = factor},
        linear_grid(known.tiles * ((extents.runs + runs_at_once - 1) / runs_at_once)), label,
        {.bytes = double(known.rows) * double(w.in) * (double(w.bits) / 8 + 2.0 / double(w.block_size) + bytes(weight.dtype()))});
}

}  // namespace vkqat
