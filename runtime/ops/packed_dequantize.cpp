#include "runtime/ops/packed_dequantize.h"

#include <algorithm>
#include <array>

#include "shaders/args/packed_dequantize.h"

namespace vkqat {
namespace {

constexpr uint32_t steps_at_once = 4;

uint32_t table_copies(int bits) { return std::min(32u, 2048u >> bits); }

uint32_t shared_bytes(int bits) { return steps_at_once * uint32_t(bits) * 33 * 16 + (table_copies(bits) << bits) * 4; }

}  // namespace

TileRange tile_range(const PackedLayer& w, int64_t first_tile, int64_t tiles) {
    TileRange range{first_tile, tiles, 0, 0};
    int64_t at = 0, row = 0;  // of the part
    const int64_t end = first_tile + tiles;
    auto rows_before = [&](int64_t tile) {
        at = row = 0;
        for (int64_t r : w.rows) {
            const int64_t of_part = (r + 31) / 32;
            if (tile < at + of_part) return row + (tile - at) * 32;
            at += of_part, row += r;
        }
        return row;
    };
    range.first_row = rows_before(first_tile);
    range.rows = rows_before(end) - range.first_row;
    rows_before(INT64_MAX);
    if (first_tile < 0 || tiles < 1 || end > at) fail("tiles {} to {} of a packed weight of {}", first_tile, end, at);
    return range;
}

bool can_dequantize_tiles(const Capabilities& device, const PackedLayer& w) {
    return w.block_size % 8 == 0 && device.max_workgroup_invocations >= 256 && device.shared_memory_bytes >= shared_bytes(w.bits);
}

void dequantize_tiles(Graph& g, const PackedLayer& w, const TileRange& range, float factor, Tensor weight,
                      const std::string& label) {
    const PackedExtents extents = packed_extents(w.rows, w.in, w.bits, w.block_size);
    expect(w.indices, {extents.words}, DType::u32, label + ": indices");
    expect(w.scales, {extents.scales}, DType::bf16, label + ": scales");
    expect(w.centroids, {int64_t(w.rows.size()), int64_t(1) << w.bits}, DType::f32, label + ": centroids");
    if (!is_float(weight.dtype())) fail("{}: a weight cannot be {}", label, name(weight.dtype()));
    const TileRange known = tile_range(w, range.first_tile, range.tiles);
    expect(weight, {known.rows, w.in}, weight.dtype(), label);
    const Graph::TensorInfo& info = g.info(weight);
    if ((g.storages()[info.storage].address + info.offset) % 16 != 0) fail("{}: '{}' is not aligned", label, weight.name());
    if (!can_dequantize_tiles(g.capabilities(), w))
        fail("{}: {} cannot, or blocks of {}", label, g.capabilities().name, w.block_size);
    std::array<uint32_t, 3> rows{}, first{};
    for (size_t i = 0; i < 3; i++) {
        rows[i] = i < w.rows.size() ? uint32_t(w.rows[i]) : 0;
        first[i] = i == 0 ? 0 : first[i - 1] + (rows[i - 1] + 31) / 32;
    }
    g.dispatch(
        Kernel{fmt::format("packed_dequantize_tiles_{}", name(weight.dtype())),
               {256, uint32_t(w.bits), steps_at_once, table_copies(w.bits)}},
        {in(w.indices), in(w.scales), in(w.centroids), out(weight)},
        DequantizeTilesArgs{.in_cols = uint32_t(w.in),
                            .block_size = uint32_t(w.block_size),
                            .tiles_1 = first[1],
                            .tiles_2 = first[2],
                            .rows_0 = rows[0],
                            .rows_1 = rows[1],
                            .rows_2 = rows[2],
                            .first_tile = uint32_t(known.first_tile),
                            .tiles = uint32_t(known.tiles),
                            .first_row = uint32_t(known.first_row),
                            .factor = factor},
        linear_grid(known.tiles * ((extents.steps + steps_at_once - 1) / steps_at_once)), label,
        {.bytes = double(known.rows) * double(w.in) * (double(w.bits) / 8 + 2.0 / double(w.block_size) + bytes(weight.dtype()))});
}

}  // namespace vkqat
