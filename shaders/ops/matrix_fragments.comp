#version 460
//! variant matrix_fragments needs=coopmat
// Which elements of matrices of 16 x 8 x 16 each lane has: the matrices are loaded with the numbers of their elements.
#pragma use_vulkan_memory_model
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#include "common.glsl"
#include "args/matrix_fragments.h"
layout(push_constant, scalar) uniform Push { MatrixFragmentsArgs a; };
shared float16_t numbers[256];
shared float sums[128];

void main() {
    const uint lane = gl_LocalInvocationIndex;
    for (uint i = lane; i < 256; i += 32) numbers[i] = float16_t(i);
    for (uint i = lane; i < 128; i += 32) sums[i] = float(i);
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a_matrix;
    coopmat<float16_t, gl_ScopeSubgroup, 16, 8, gl_MatrixUseB> b_matrix;
    coopmat<float, gl_ScopeSubgroup, 16, 8, gl_MatrixUseAccumulator> c_matrix;
    coopMatLoad(a_matrix, numbers, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(b_matrix, numbers, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(c_matrix, sums, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
    F32 to = F32(a.numbers + lane * 64);
    for (uint i = 0; i < 8; i++) to.v[i] = i < a_matrix.length() ? float(a_matrix[i]) : -1.0;
    for (uint i = 0; i < 4; i++) to.v[8 + i] = i < b_matrix.length() ? float(b_matrix[i]) : -1.0;
    for (uint i = 0; i < 4; i++) to.v[12 + i] = i < c_matrix.length() ? c_matrix[i] : -1.0;
}
