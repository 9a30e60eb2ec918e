// Every embedded shader through AMD's compiler, without AMD's hardware: RADV compiles for the chip that RADV_FORCE_FAMILY names
// (tests/vulkan/CMakeLists.txt has an entry for each). The device is only opened to compile; nothing runs on it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "runtime/vulkan/device.h"
#include "runtime/vulkan/shader_table.h"

namespace vkqat {
namespace {

// The workgroup of a shader family, by the beginning of its name; the first that fits counts. `subgroups`: the width in
// subgroups; otherwise `width` invocations. `rest`: the constants after it.
struct Family {
    std::string_view prefix;
    uint32_t subgroups, width;
    std::vector<uint32_t> rest;
};
const Family families[] = {
    // The block and alignments (of a, b, c, k); for matrix units the block, the subgroups' grid, their shape, types and orders.
    {"tiled_", 0, 256, {128, 128, 16, 1, 1, 1, 1}},
    {"coopmat_", 8, 0, {128, 128, 64, 2, 4, 1, 1, 16, 16, 16, 8, 0, 1, 1, 1, 1, 0, 1, 1}},
    {"packed_matmul_input_", 4, 0, {4}},
    {"packed_matmul_", 8, 0, {128, 128, 64, 2, 4, 1, 1, 16, 16, 16, 8, 1, 1, 1, 1, 1, 4, 1, 32, 1}},
    // Tokens, parts, chunks, depth, columns of x, copies of the table (log 2), runs of a block, norm, alignment, SwiGLU, quads,
    // lanes, whether x and sums are apart, zero points or two scales (3), rounds of a batch, whether x comes at once, and is all.
    {"packed_matvec_1_integers", 0, 512, {1, 4, 2, 1, 8192, 5, 2, 3, 1, 0, 125, 32, 1, 0, 0, 0, 0, 1, 1}},
    {"packed_matvec_2_integers", 0, 512, {1, 4, 2, 1, 8192, 5, 2, 3, 1, 0, 125, 32, 0, 0, 0, 0, 0, 1, 1}},
    {"packed_matvec_1", 0, 512, {1, 4, 1, 1, 4096, 5, 2, 3, 1, 0, 48, 32, 1, 0, 0, 0, 0, 1, 1}},
    {"packed_matvec_2", 0, 512, {1, 4, 1, 2, 4096, 4, 2, 3, 1, 1, 28, 32, 0, 0, 0, 0, 0, 1, 1}},
    {"packed_matvec_", 0, 512, {1, 4, 1, 2, 4096, 5, 2, 3, 1, 1, 28, 32, 0, 0, 0, 0, 0, 1, 1}},
    // Columns and rows of 12B, rows of a workgroup, runs of a lane, copies of the table (log 2), runs of a block, norm, lanes, on
    // a CPU, patience, columns of a head, parts, keys of a part, keys at once, whether idle lanes skip.
    {"packed_layers_2_", 0, 512, {4096, 14336, 4096, 1024, 32, 112, 48, 1, 4, 2, 3, 32, 0, 1000, 128, 4, 128, 2, 1}},
    {"packed_layers_", 0, 512, {4096, 14336, 4096, 1024, 32, 112, 48, 1, 5, 2, 3, 32, 0, 1000, 128, 4, 128, 2, 0}},
    // Tokens, tiles, depth, chunks of x, copies of the table (log 2), norm, alignment, SwiGLU.
    {"ternary_matvec_", 0, 512, {1, 2, 4, 128, 3, 3, 1, 1, 0, 0}},
    // Attention: head_dim, the block, heads, the shape of matrices, switches.
    {"attention_units_delta_", 1, 0, {128, 16, 1}},
    {"attention_units_forward_", 4, 0, {128, 32, 4, 2, 4, 16, 16, 16, 1, 1, 1, 1, 0, 1}},
    {"cached_attention_units_", 4, 0, {128, 32, 4, 2, 4, 16, 16, 16, 1, 1, 1, 0, 0, 1, 1}},
    {"attention_units_gradient_q_", 2, 0, {128, 32, 2, 2, 4, 16, 16, 16, 1, 1, 1, 1, 1}},
    {"attention_units_gradient_kv_", 4, 0, {128, 32, 4, 2, 1, 16, 16, 16, 1, 1, 1, 1, 1}},
    // Tokens, rows, subgroups that share them, depth, columns of x, lanes (the subgroup), norm, alignment, SwiGLU, staging.
    {"dense_matvec_", 0, 256, {1, 2, 1, 4, 4096, 0, 3, 1, 1, 1}},
    {"", 1, 0, {}},
};

Kernel kernel_of(std::string_view shader, uint32_t subgroup_size) {
    for (const Family& family : families) {
        if (!shader.starts_with(family.prefix)) continue;
        Kernel kernel{std::string(shader), {family.subgroups ? family.subgroups * subgroup_size : family.width}};
        kernel.constants.insert(kernel.constants.end(), family.rest.begin(), family.rest.end());
        if (shader.starts_with("dense_matvec_")) kernel.constants[6] = subgroup_size;
        if (shader.starts_with("packed_layers_")) kernel.constants[12] = subgroup_size;
        return kernel;
    }
    return {};
}

// Whether the program declares a capability (OpCapability, number 17, at the head of every SPIR-V program).
bool declares(const EmbeddedShader& shader, uint32_t capability) {
    for (size_t i = 5; i + 1 < shader.words.size() && (shader.words[i] & 0xffff) == 17; i += shader.words[i] >> 16)
        if (shader.words[i + 1] == capability) return true;
    return false;
}
constexpr uint32_t cooperative_matrix = 6022, bfloat16_cooperative_matrix = 5118;  // SPIR-V's numbers

TEST(AmdCompile, EveryShaderCompilesAndItsRegistersAreReported) {
    const char* family = std::getenv("RADV_FORCE_FAMILY");
    if (!family || !*family) GTEST_SKIP() << "RADV_FORCE_FAMILY names no chip (tools/cpu-vulkan --driver radeon)";
    Instance instance;
    DeviceOptions options;
    options.pipeline_disk_cache = false;
    options.compile_only = true;
    Device device(instance, options);
    const Capabilities& c = device.capabilities();
    ASSERT_EQ(c.vendor_id, 0x1002u) << c.name << " is not AMD's: VK_DRIVER_FILES names another driver";
    ASSERT_TRUE(c.pipeline_executable_info) << "the driver reports nothing about its programs";
    const CooperativeMatrixShape* f16 = c.cooperative_matrix(DType::f16, DType::f32);
    const CooperativeMatrixShape* bf16 = c.cooperative_matrix(DType::bf16, DType::f32);
    std::printf("%s, subgroup size %u, cooperative matrices: %s%s\n%-30s %6s %6s %6s %6s %7s %8s\n", c.name.c_str(),
                c.subgroup_size, f16 ? "f16 " : "",
                bf16  ? "bf16"
                : f16 ? ""
                      : "none",
                "shader", "VGPRs", "SGPRs", "spills", "LDS", "scratch", "code");
    size_t compiled = 0, spilling = 0;
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // the driver may crash: the last line then names the shader before
    for (const EmbeddedShader& shader : embedded_shaders()) {
        const CooperativeMatrixShape* shape = declares(shader, bfloat16_cooperative_matrix) ? bf16 : f16;
        if (declares(shader, cooperative_matrix) && !shape) {
            std::printf("%-30s needs matrices that the chip does not offer\n", std::string(shader.name).c_str());
            continue;
        }
        std::map<std::string, double> is;
        try {
            for (auto& s : device.pipelines().statistics(kernel_of(shader.name, c.subgroup_size))) is[s.name] += s.value;
        } catch (const Error& e) {
            ADD_FAILURE() << e.what();
            continue;
        }
        ASSERT_TRUE(is.contains("VGPRs") && is.contains("Spilled VGPRs") && is.contains("Code size"))
            << "the driver names its statistics otherwise";
        double spills = is["Spilled VGPRs"] + is["Spilled SGPRs"];
        std::printf("%-30s %6.0f %6.0f %6.0f %6.0f %7.0f %8.0f\n", std::string(shader.name).c_str(), is["VGPRs"], is["SGPRs"],
                    spills, is["LDS size"], is["Scratch size"], is["Code size"]);
        EXPECT_GT(is["Code size"], 0) << shader.name;
        compiled++;
        spilling += spills > 0;
    }
    std::printf("%zu of %zu shaders compiled, %zu spill registers\n", compiled, embedded_shaders().size(), spilling);
    EXPECT_GT(compiled, 0u);
}

}  // namespace
}  // namespace vkqat
