// The device that tests run on, and small helpers to put tensors on it and to read them back.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "runtime/graph/executable.h"
#include "runtime/graph/graph.h"

namespace vkqat::test {

// The device named by VKQAT_DEVICE (else the best one), made once for the program, with the validation layers when
// VKQAT_VALIDATION=1. A validation message fails the test in which it came up.
Device& device();

std::vector<float> normal(size_t count, uint32_t seed, float scale = 1);
std::vector<float> uniform(size_t count, uint32_t seed, float low, float high);

// Buffers that live as long as the test's graph.
class Tensors {
public:
    explicit Tensors(Graph& graph) : graph_(graph) {}
    // An external tensor that holds `values` (f32 in, stored as `dtype`: f32, f16 or bf16).
    Tensor floats(const Shape& shape, const std::vector<float>& values, const std::string& name, DType dtype = DType::f32);
    Tensor ints(const Shape& shape, const std::vector<int32_t>& values, const std::string& name, DType dtype = DType::i32);
    Tensor bytes(const Shape& shape, const std::vector<uint8_t>& values, const std::string& name);
    // An external tensor filled with NaN (all bits set), so that an element nobody writes is seen.
    Tensor poisoned(const Shape& shape, const std::string& name, DType dtype = DType::f32);
    // Makes `weight` a parameter with a poisoned gradient buffer, which it returns.
    Tensor parameter_gradient(Tensor weight);
    std::vector<float> read(Tensor external) const;  // any float type, as f32
    std::vector<int32_t> read_ints(Tensor external) const;
    void write(Tensor external, const std::vector<float>& values);

private:
    const Buffer& buffer(Tensor t) const;
    Tensor add(const Shape& shape, DType dtype, const std::string& name, std::span<const std::byte> bytes);
    Graph& graph_;
    std::vector<std::pair<uint32_t, Buffer>> buffers_;
};

std::vector<float> read_floats(const Executable& executable, Tensor kept);  // a tensor that the graph keeps

// |a - b| / |b| over all elements; infinite if a value is not finite or the sizes differ.
double relative_error(const std::vector<float>& a, const std::vector<double>& b);
double relative_error(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace vkqat::test
