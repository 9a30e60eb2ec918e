// One value per lane from memory, fast on CPU drivers with subgroups of 8 and on GPUs. For shaders whose workgroup is one
// subgroup and whose specialization constant 1 is `uniform_loads`.
//
// lavapipe compiles a per-lane load, even a contiguous one, to a gather; but it folds eight subgroup-uniform loads and selects on
// constant lane masks into one vector load. `lane_is` must be filled before any loop: what is computed in a loop and used after
// it becomes a masked register there. For the same reason loops over uniform loads are do-while loops: a `for` body runs once
// more with an empty mask, and uniform loads ignore the mask.
layout(constant_id = 1) const bool uniform_loads = false;  // Quirks::gathers_are_slow, subgroups of 8
#define LANES gl_WorkGroupSize.x
#define UNROLL [[unroll]]

uint lane;
bool lane_is[8];

// First statement of main().
void init_lanes() {
    lane = gl_SubgroupInvocationID;
    UNROLL for (uint i = 0; i < 8; ++i) lane_is[i] = lane == i;
}

// Argument number `lane` of the eight.
float by_lane(float a, float b, float c, float d, float e, float f, float g, float h) {
    float x = a;
    x = mix(x, b, lane_is[1]);
    x = mix(x, c, lane_is[2]);
    x = mix(x, d, lane_is[3]);
    x = mix(x, e, lane_is[4]);
    x = mix(x, f, lane_is[5]);
    x = mix(x, g, lane_is[6]);
    x = mix(x, h, lane_is[7]);
    return x;
}

// Element `lane` at a subgroup-uniform address.
float lanes_f32(uint64_t address) {
    F32 q = F32(address);
    if (uniform_loads) return by_lane(q.v[0], q.v[1], q.v[2], q.v[3], q.v[4], q.v[5], q.v[6], q.v[7]);
    return q.v[lane];
}
float lanes_f16(uint64_t address) {
    F16 q = F16(address);
    if (uniform_loads)
        return by_lane(float(q.v[0]), float(q.v[1]), float(q.v[2]), float(q.v[3]), float(q.v[4]), float(q.v[5]), float(q.v[6]),
                       float(q.v[7]));
    return float(q.v[lane]);
}
float lanes_bf16(uint64_t address) {
    U16 q = U16(address);
    if (uniform_loads)
        return by_lane(bf16_to_float(q.v[0]), bf16_to_float(q.v[1]), bf16_to_float(q.v[2]), bf16_to_float(q.v[3]),
                       bf16_to_float(q.v[4]), bf16_to_float(q.v[5]), bf16_to_float(q.v[6]), bf16_to_float(q.v[7]));
    return bf16_to_float(q.v[lane]);
}
#define LANES_LOAD(type, address) CONCAT(lanes_, type)(address)
#define BYTES_f32 4
#define BYTES_f16 2
#define BYTES_bf16 2
// The address of element i.
#define AT(type, base, i) ((base) + uint64_t(i) * CONCAT(BYTES_, type))
