#version 460
//! variant quantize_f32 OUTPUT=f32
//! variant quantize_f16 OUTPUT=f16
//! variant quantize_bf16 OUTPUT=bf16
// One subgroup per part of a block. Small blocks are done in one go; large ones in three: statistics of the parts, their joining
// (quantize_scales.comp), application.
#include "common.glsl"
#include "lanes.glsl"
#include "args/quantize.h"
#include "trainer/divide.glsl"
#include "trainer/quantize_scale.glsl"
layout(push_constant, scalar) uniform Push { QuantizeArgs a; };
layout(constant_id = 4) const uint bits = 2;
layout(constant_id = 5) const uint stage = 0;
const uint STAGE_ALL = 0, STAGE_STATISTICS = 1, STAGE_APPLY = 2;
layout(constant_id = 6) const bool whole_tiles = false;  // rows of parts are multiples of the subgroup
layout(constant_id = 7) const uint parts_each = 1;       // that a workgroup does one after the other

uint row_begin, row_end, col_begin, col_end;
const uint LEVELS = 1u << bits;
const bool TABLE_IN_REGISTERS = bits <= 4;
float level[16], boundary[16];  // boundary[i] between level[i] and level[i + 1]

// The lane's weight of the tile that starts at column c; the last one of the row where the tile reaches beyond it.
float load_weight(uint64_t row_address, uint c) {
    if (whole_tiles) return lanes_f32(row_address + uint64_t(c) * 4);
    return F32(row_address).v[min(c + lane, col_end - 1)];
}

vec2 statistics() {  // of the part: joined contributions, sum
    vec2 total = vec2(0);
    uint row = row_begin;
    do {
        uint64_t row_address = a.weight + uint64_t(row) * a.cols * 4;
        uint c = col_begin;
        do {  // sums of sums: the error of one long sum would be seen
            vec2 tile = vec2(0);
            uint stop = min(c + 32 * LANES, col_end);
            do {
                float w = load_weight(row_address, c);
                if (!whole_tiles && c + lane >= col_end) w = 0.0;
                tile.x = join(tile.x, contribution(w));
                tile.y += w;
                c += LANES;
            } while (c < stop);
            total.x = join(total.x, tile.x);
            total.y += tile.y;
        } while (c < col_end);
        row++;
    } while (row < row_end);
    return vec2(join_subgroup(total.x), kind == KIND_BINARY ? subgroupAdd(total.y) : 0.0);
}

float nearest_centroid(float u) {
    if (TABLE_IN_REGISTERS) {
        float c = level[0];
        UNROLL for (uint i = 0; i < 15; i++)
            if (i + 1 < LEVELS) c = mix(c, level[i + 1], u > boundary[i]);
        return c;
    }
    F32 table = F32(a.centroids);
    uint index = 0;
    UNROLL for (uint i = 0; i < bits; i++) {
        uint half_range = LEVELS >> (i + 1);
        float middle = (table.v[index + half_range - 1] + table.v[index + half_range]) * 0.5;
        if (u > middle) index += half_range;
    }
    return table.v[index];
}

float quantize(float w, float scale, float mean, float step_size) {
    if (kind == KIND_SYM_INT) {
        float grid = float((1u << (bits - 1)) - 1u);
        return roundEven(clamp(divide(w, step_size), -grid, grid)) * step_size;
    }
    if (kind == KIND_TERNARY) return roundEven(clamp(divide(w, scale), -1.0, 1.0)) * scale;
    if (kind == KIND_BINARY) return sign(w - mean) * scale;
    if (kind == KIND_ONEBIT) return sign(w);
    if (kind == KIND_NONLINEAR) return nearest_centroid(divide(w, scale)) * scale;
    return w;
}

void quantize_part(uint index) {
    uint row_parts = (a.block_rows + a.part_rows - 1) / a.part_rows, col_parts = (a.block_cols + a.part_cols - 1) / a.part_cols;
    uint parts = row_parts * col_parts, block_columns = a.cols / a.block_cols;
    uint block = index / parts, part = index - block * parts;
    uint row0 = block / block_columns * a.block_rows, col0 = block % block_columns * a.block_cols;
    row_begin = row0 + part / col_parts * a.part_rows;
    col_begin = col0 + part % col_parts * a.part_cols;
    row_end = min(row_begin + a.part_rows, row0 + a.block_rows);
    col_end = min(col_begin + a.part_cols, col0 + a.block_cols);

    float scale = 1.0, mean = 0.0;
    if (stage == STAGE_APPLY) {
        scale = F32(a.statistics).v[2 * block];
        mean = F32(a.statistics).v[2 * block + 1];
    } else if (stage == STAGE_STATISTICS || statistic != STATISTIC_NONE) {
        vec2 joined = statistics();
        if (stage == STAGE_STATISTICS) {
            if (lane == 0) F32(a.statistics + uint64_t(index) * 8).v[0] = joined.x;
            if (lane == 0) F32(a.statistics + uint64_t(index) * 8).v[1] = joined.y;
            return;
        }
        float elements = float(a.block_rows * a.block_cols);
        scale = scale_of(joined.x, elements);
        mean = divide(joined.y, elements);
    }
    if (stage == STAGE_ALL && a.scales != 0 && lane == 0) F32(a.scales).v[block] = scale;
    if (a.quantized == 0) return;

    float step_size = kind == KIND_SYM_INT ? divide(scale, float((1u << (bits - 1)) - 1u)) : 1.0;
    uint row = row_begin;
    do {
        uint64_t row_offset = uint64_t(row) * a.cols;
        uint c = col_begin;
        do {
            float q = quantize(load_weight(a.weight + row_offset * 4, c), scale, mean, step_size);
            if (whole_tiles || c + lane < col_end) STORE(OUTPUT, a.quantized, row_offset + (c + lane), q);
            c += LANES;
        } while (c < col_end);
        row++;
    } while (row < row_end);
}

void main() {
    init_lanes();
    const uint row_parts = (a.block_rows + a.part_rows - 1) / a.part_rows, col_parts = (a.block_cols + a.part_cols - 1) / a.part_cols;
    const uint all = (a.out_rows / a.block_rows) * (a.cols / a.block_cols) * row_parts * col_parts;
    uint index = workgroup_index() * parts_each;
    const uint end = min(index + parts_each, all);
    if (index >= all) return;
    // Where only scales are wanted there may be no centroids.
    if (kind == KIND_NONLINEAR && TABLE_IN_REGISTERS && stage != STAGE_STATISTICS && a.quantized != 0) {
        UNROLL for (uint i = 0; i < 16; i++)
            if (i < LEVELS) level[i] = F32(a.centroids).v[i];
        UNROLL for (uint i = 0; i < 15; i++)
            if (i + 1 < LEVELS) boundary[i] = (level[i] + level[i + 1]) * 0.5;
    }
    if (parts_each == 1) {
        quantize_part(index);
        return;
    }
    do {
        quantize_part(index);
        index++;
    } while (index < end);
}
