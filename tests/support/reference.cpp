#include "tests/support/reference.h"

#include <cstdlib>
#include <cstring>

#include "runtime/support/error.h"

namespace vkqat::test {

std::filesystem::path source_folder() {
    const char* value = std::getenv("VKQAT_SOURCE");
    return value && *value ? value : VKQAT_SOURCE_DIR;
}

static std::filesystem::path folder(const char* variable, const char* name) {
    const char* value = std::getenv(variable);
    std::filesystem::path path = value && *value ? std::filesystem::path(value) : source_folder() / ".." / "shared" / name;
    return std::filesystem::is_directory(path) ? path : std::filesystem::path();
}

std::filesystem::path reference_folder() { return folder("VKQAT_REFERENCE", "reference"); }
std::filesystem::path data_folder() { return folder("VKQAT_DATA", "data"); }

Shape shape_of(const TensorView& t) {
    if (t.shape.empty() || t.shape.size() > 2) fail("{}: has {} dimensions, expected 1 or 2", t.name, t.shape.size());
    return t.shape.size() == 1 ? Shape{t.shape[0]} : Shape{t.shape[0], t.shape[1]};
}

std::vector<int64_t> read_int64(const TensorView& tensor) {
    if (tensor.dtype != DType::i64) fail("{}: expected i64", tensor.name);
    std::vector<int64_t> values(tensor.bytes.size() / 8);
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
}

}  // namespace vkqat::test
