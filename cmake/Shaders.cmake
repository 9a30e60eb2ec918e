# Shaders are compiled at build time and embedded. A shader file names its own variants, one line each, at its head:
#
#   //! variant NAME [needs=FEATURE[,FEATURE]] [DEFINE=VALUE ...]
#
# so that a new operation touches no other operation's file. A variant whose FEATURE the compiler lacks is left out and
# reported. vkqat_shaders() makes the library vkqat_shaders, which offers runtime/vulkan's `find_shader(name)`.

# What the shader compiler can do, by compiling a small program that uses it.
function(vkqat_shader_feature feature source)
  set(file ${CMAKE_BINARY_DIR}/generated/probe_${feature}.comp)
  file(WRITE ${file} "#version 460\n${source}\n")
  execute_process(COMMAND ${GLSLANG} -V --target-env vulkan1.3 ${file} -o ${file}.spv
                  RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
  if(failed)
    set(VKQAT_SHADER_${feature} FALSE PARENT_SCOPE)
    vkqat_note("shader compiler lacks ${feature}: its variants are left out")
  else()
    set(VKQAT_SHADER_${feature} TRUE PARENT_SCOPE)
  endif()
endfunction()

function(vkqat_shaders)
  execute_process(COMMAND ${GLSLANG} --version OUTPUT_VARIABLE version)
  string(REGEX MATCH "[0-9]+:[0-9.]+" version "${version}")
  vkqat_note("shader compiler: glslang ${version}")
  vkqat_shader_feature(coopmat "#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
void main() { coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a; }")
  vkqat_shader_feature(integer_dot "#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = [\"SPV_KHR_integer_dot_product\"], capabilities = [6019, 6018], id = 4450)
int signed_dot(uint a, uint b, spirv_literal int format);
layout(binding = 0) buffer B { uint v[]; };
layout(local_size_x = 1) in;
void main() { v[0] = uint(signed_dot(v[1], v[2], 0)); }")
  vkqat_shader_feature(bfloat16 "#extension GL_EXT_bfloat16 : require
void main() { bfloat16_t a = bfloat16_t(1.0); }")

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.comp)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.glsl ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
  set(out ${CMAKE_BINARY_DIR}/generated/spirv)
  file(MAKE_DIRECTORY ${out})
  set(includes "")
  set(rows "")
  set(outputs "")
  foreach(source ${sources})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(STRINGS ${source} lines REGEX "^//! variant ")
    if(NOT lines)
      message(FATAL_ERROR "${source} names no variant (//! variant NAME ...)")
    endif()
    foreach(line ${lines})
      string(REGEX REPLACE "^//! variant +" "" line "${line}")
      string(REGEX REPLACE " +" ";" words "${line}")
      list(POP_FRONT words name)
      set(defines "")
      set(missing "")
      foreach(word ${words})
        if(word MATCHES "^needs=(.*)")
          string(REPLACE "," ";" needs "${CMAKE_MATCH_1}")
          foreach(need ${needs})
            if(NOT VKQAT_SHADER_${need})
              set(missing ${need})
            endif()
          endforeach()
        else()
          list(APPEND defines "-D${word}")
        endif()
      endforeach()
      if(missing)
        vkqat_note("left out shader ${name}: the compiler lacks ${missing}")
        continue()
      endif()
      set(header ${out}/${name}.inc)
      add_custom_command(OUTPUT ${header}
        COMMAND ${GLSLANG} -V --quiet --target-env vulkan1.3 "-P\#extension GL_GOOGLE_include_directive : require" -I${CMAKE_CURRENT_SOURCE_DIR} ${defines} --vn ${name} -o ${header} ${source}
        DEPENDS ${source} ${headers} VERBATIM COMMENT "shader ${name}")
      list(APPEND outputs ${header})
      string(APPEND includes "#include \"${name}.inc\"\n")
      string(APPEND rows "    {\"${name}\", std::span<const uint32_t>(${name})},\n")
    endforeach()
  endforeach()
  set(table ${CMAKE_BINARY_DIR}/generated/shader_table.cpp)
  file(GENERATE OUTPUT ${table} CONTENT
"#include \"runtime/vulkan/shader_table.h\"
namespace {
#include <cstdint>
${includes}}
namespace vkqat {
static const EmbeddedShader shaders[] = {
${rows}};
std::span<const EmbeddedShader> embedded_shaders() { return shaders; }
}
")
  set_source_files_properties(${table} PROPERTIES OBJECT_DEPENDS "${outputs}")
  add_library(vkqat_shaders STATIC ${table})
  target_include_directories(vkqat_shaders PRIVATE ${out} ${PROJECT_SOURCE_DIR})
endfunction()
