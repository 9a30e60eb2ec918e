// What every shader starts with: extensions, buffer references by element type, workgroup numbering.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require

// The workgroup's width is always specialization constant 0.
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer F32 { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer F32x4 { vec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer F16 { float16_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer U16 { uint16_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 1) buffer U8 { uint8_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer U32 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer U32x2 { uvec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer U32x4 { uvec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer I32 { int v[]; };

// bf16 is kept as its 16 bits; it is the upper half of an fp32.
float bf16_to_float(uint16_t bits) { return uintBitsToFloat(uint(bits) << 16); }
uint16_t float_to_bf16(float x) {  // nearest, ties to even; NaN stays NaN
    uint bits = floatBitsToUint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t((bits >> 16) | 0x40u);
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Element access by type, for shaders that are compiled for several: LOAD(f32, address, index).
// An index into a buffer reference has 32 bits: offsets that may exceed that are added to the address first.
float load_f32(uint64_t base, uint64_t i) { return F32(base + i * 4).v[0]; }
float load_f16(uint64_t base, uint64_t i) { return float(F16(base + i * 2).v[0]); }
float load_bf16(uint64_t base, uint64_t i) { return bf16_to_float(U16(base + i * 2).v[0]); }
void store_f32(uint64_t base, uint64_t i, float x) { F32(base + i * 4).v[0] = x; }
void store_f16(uint64_t base, uint64_t i, float x) { F16(base + i * 2).v[0] = float16_t(x); }
void store_bf16(uint64_t base, uint64_t i, float x) { U16(base + i * 2).v[0] = float_to_bf16(x); }
#define CONCAT2(a, b) a##b
#define CONCAT(a, b) CONCAT2(a, b)
#define LOAD(type, base, i) CONCAT(load_, type)(base, i)
#define STORE(type, base, i, x) CONCAT(store_, type)(base, i, x)

// The number of this workgroup in a linear_grid(): it may exceed what it should be by the last row's rest, so compare.
uint workgroup_index() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }
// The number of this invocation in a linear_grid().
uint invocation_index() { return workgroup_index() * gl_WorkGroupSize.x + gl_LocalInvocationIndex; }
