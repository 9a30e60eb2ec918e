// The folder of reference vectors, which the project does not ship: VKQAT_REFERENCE, else ../shared/reference beside the
// source tree. And of real data: VKQAT_DATA, else ../shared/data.
#pragma once

#include <filesystem>
#include <vector>

#include "runtime/formats/safetensors.h"
#include "runtime/graph/shape.h"

namespace vkqat::test {

// The source tree: VKQAT_SOURCE where a build was carried to another machine, else where it was built.
std::filesystem::path source_folder();
std::filesystem::path reference_folder();  // empty if there is none
std::filesystem::path data_folder();       // likewise
std::vector<int64_t> read_int64(const TensorView& tensor);
Shape shape_of(const TensorView& tensor);

}  // namespace vkqat::test
