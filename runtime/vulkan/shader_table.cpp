#include "runtime/vulkan/shader_table.h"

#include <algorithm>

namespace vkqat {

const EmbeddedShader* find_shader(std::string_view name) {
    auto all = embedded_shaders();
    auto it = std::find_if(all.begin(), all.end(), [&](const EmbeddedShader& s) { return s.name == name; });
    return it == all.end() ? nullptr : &*it;
}

}  // namespace vkqat
