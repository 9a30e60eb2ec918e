// The embedded programs are valid SPIR-V for what the project asks of a device.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/vulkan/shader_table.h"

namespace vkqat {
namespace {

TEST(EmbeddedSpirv, PassesTheValidator) {
    std::string validator = VKQAT_SPIRV_VAL;  // found by CMake
    if (validator.empty()) GTEST_SKIP() << "there is no spirv-val";
    auto folder = std::filesystem::temp_directory_path() / ("vkqat-spirv-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
    ASSERT_GT(embedded_shaders().size(), 0u);
    for (const EmbeddedShader& shader : embedded_shaders()) {
        auto file = folder / (std::string(shader.name) + ".spv");
        std::ofstream(file, std::ios::binary)
            .write(reinterpret_cast<const char*>(shader.words.data()), std::streamsize(shader.words.size_bytes()));
        std::string command = "'" + validator + "' --target-env vulkan1.3 --scalar-block-layout '" + file.string() + "' 2>&1";
        std::string output;
        FILE* pipe = popen(command.c_str(), "r");
        ASSERT_NE(pipe, nullptr);
        char buffer[512];
        while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
        EXPECT_EQ(pclose(pipe), 0) << shader.name << ": " << output;
    }
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace vkqat
