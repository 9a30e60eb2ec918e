// The SPIR-V programs embedded at build time, by name. Their variants are listed in the shader files (cmake/Shaders.cmake).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace vkqat {

struct EmbeddedShader {
    std::string_view name;
    std::span<const uint32_t> words;
};

std::span<const EmbeddedShader> embedded_shaders();
const EmbeddedShader* find_shader(std::string_view name);  // nullptr: this build has no such variant

}  // namespace vkqat
