#include "tests/support/gpu.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

namespace vkqat::test {
namespace {

struct Gpu {
    std::unique_ptr<Instance> instance;
    std::unique_ptr<Device> device;
};

Gpu& gpu() {
    static Gpu g;
    return g;
}

bool flag(const char* name) {
    const char* value = std::getenv(name);
    return value && *value && std::strcmp(value, "0") != 0;
}

// Fails the running test when the validation layers said something during it, and lets the device go before statics do.
class Watch : public testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo&) override {
        if (!gpu().instance) return;
        size_t now = gpu().instance->validation_messages();
        if (now != seen_) ADD_FAILURE() << now - seen_ << " messages of the validation layers (printed above)";
        seen_ = now;
    }
    void OnTestProgramEnd(const testing::UnitTest&) override {
        gpu().device.reset();
        gpu().instance.reset();
    }
    size_t seen_ = 0;
};

}  // namespace

Device& device() {
    if (!gpu().device) {
        gpu().instance = std::make_unique<Instance>(InstanceOptions{.validation = flag("VKQAT_VALIDATION")});
        DeviceOptions options;
        if (const char* selector = std::getenv("VKQAT_DEVICE")) options.selector = selector;
        if (const char* size = std::getenv("VKQAT_SUBGROUP_SIZE")) options.subgroup_size = uint32_t(std::atoi(size));
        gpu().device = std::make_unique<Device>(*gpu().instance, options);
        const Capabilities& c = gpu().device->capabilities();
        std::fprintf(stderr, "device: %s (%s), subgroup size %u\n", c.name.c_str(), c.driver.c_str(), c.subgroup_size);
    }
    return *gpu().device;
}

std::vector<float> normal(size_t count, uint32_t seed, float scale) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution(0, scale);
    std::vector<float> values(count);
    for (float& v : values) v = distribution(random);
    return values;
}

std::vector<float> uniform(size_t count, uint32_t seed, float low, float high) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> distribution(low, high);
    std::vector<float> values(count);
    for (float& v : values) v = distribution(random);
    return values;
}

static std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
    std::vector<std::byte> bytes(values.size() * vkqat::bytes(dtype));
    for (size_t i = 0; i < values.size(); i++) {
        if (dtype == DType::f32) {
            std::memcpy(bytes.data() + 4 * i, &values[i], 4);
        } else {
            uint16_t half = dtype == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
            std::memcpy(bytes.data() + 2 * i, &half, 2);
        }
    }
    return bytes;
}

static std::vector<float> decode(std::span<const std::byte> bytes, DType dtype) {
    std::vector<float> values(bytes.size() / vkqat::bytes(dtype));
    for (size_t i = 0; i < values.size(); i++) {
        if (dtype == DType::f32) {
            std::memcpy(&values[i], bytes.data() + 4 * i, 4);
        } else {
            uint16_t half;
            std::memcpy(&half, bytes.data() + 2 * i, 2);
            values[i] = dtype == DType::bf16 ? bf16_to_f32(half) : f16_to_f32(half);
        }
    }
    return values;
}

Tensor Tensors::add(const Shape& shape, DType dtype, const std::string& name, std::span<const std::byte> bytes) {
    Buffer buffer = graph_.device().allocate(std::max<size_t>(bytes.size(), 1), name);
    graph_.device().upload(buffer, 0, bytes);
    Tensor t = graph_.external(buffer, 0, shape, dtype, name);
    buffers_.emplace_back(t.id(), std::move(buffer));
    return t;
}

Tensor Tensors::floats(const Shape& shape, const std::vector<float>& values, const std::string& name, DType dtype) {
    return add(shape, dtype, name, encode(values, dtype));
}
Tensor Tensors::ints(const Shape& shape, const std::vector<int32_t>& values, const std::string& name, DType dtype) {
    return add(shape, dtype, name, std::as_bytes(std::span(values)));
}
Tensor Tensors::bytes(const Shape& shape, const std::vector<uint8_t>& values, const std::string& name) {
    return add(shape, DType::u8, name, std::as_bytes(std::span(values)));
}
Tensor Tensors::poisoned(const Shape& shape, const std::string& name, DType dtype) {
    return add(shape, dtype, name, std::vector<std::byte>(size_t(shape.elements()) * vkqat::bytes(dtype), std::byte(0xff)));
}
Tensor Tensors::parameter_gradient(Tensor weight) {
    Tensor gradient = poisoned(weight.shape(), "gradient of " + weight.name());
    graph_.set_parameter(weight, gradient, false);
    return gradient;
}

const Buffer& Tensors::buffer(Tensor t) const {
    for (auto& [id, buffer] : buffers_)
        if (id == t.id()) return buffer;
    fail("tensor '{}' is not one of the test's", t.name());
}

std::vector<float> Tensors::read(Tensor t) const {
    std::vector<std::byte> bytes(t.bytes());
    graph_.device().download(buffer(t), 0, bytes);
    return decode(bytes, t.dtype());
}
std::vector<int32_t> Tensors::read_ints(Tensor t) const {
    std::vector<int32_t> values(size_t(t.elements()));
    graph_.device().download(buffer(t), 0, std::as_writable_bytes(std::span(values)));
    return values;
}
void Tensors::write(Tensor t, const std::vector<float>& values) {
    graph_.device().upload(buffer(t), 0, encode(values, t.dtype()));
}

std::vector<float> read_floats(const Executable& executable, Tensor kept) { return decode(executable.read(kept), kept.dtype()); }

template <class Reference>
static double error_of(const std::vector<float>& a, const std::vector<Reference>& b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); i++) {
        if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
        difference += (a[i] - double(b[i])) * (a[i] - double(b[i]));
        norm += double(b[i]) * double(b[i]);
    }
    return norm == 0 ? (difference == 0 ? 0 : std::numeric_limits<double>::infinity()) : std::sqrt(difference / norm);
}
double relative_error(const std::vector<float>& a, const std::vector<double>& b) { return error_of(a, b); }
double relative_error(const std::vector<float>& a, const std::vector<float>& b) { return error_of(a, b); }

}  // namespace vkqat::test

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    testing::UnitTest::GetInstance()->listeners().Append(new vkqat::test::Watch);
    return RUN_ALL_TESTS();
}
