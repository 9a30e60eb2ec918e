# What the desktop program is built with. Where something is missing, only that program is left out (VKQAT_APP is off), and the
# summary says what it lacked.
set(missing "")
find_package(glfw3 QUIET)
if(NOT glfw3_FOUND)
  list(APPEND missing "GLFW (libglfw3-dev)")
endif()
find_package(Freetype QUIET)
if(NOT FREETYPE_FOUND)
  list(APPEND missing "FreeType (libfreetype-dev)")
endif()
pkg_check_modules(md4c QUIET IMPORTED_TARGET md4c)
if(NOT md4c_FOUND)
  list(APPEND missing "md4c (libmd4c-dev)")
endif()
set(VKQAT_IMGUI ${VKQAT_TOOLCHAIN}/imgui CACHE PATH "the source of Dear ImGui 1.92 or newer")
if(EXISTS ${VKQAT_IMGUI}/imgui.h)
  file(STRINGS ${VKQAT_IMGUI}/imgui.h version REGEX "^#define IMGUI_VERSION_NUM")
  string(REGEX REPLACE "[^0-9]" "" version "${version}")
  if(version LESS 19200)
    list(APPEND missing "Dear ImGui 1.92 (${VKQAT_IMGUI} has ${version})")
  endif()
else()
  list(APPEND missing "the source of Dear ImGui")
endif()

# vkqat_font(VARIABLE FILE PACKAGE): a font of the distribution.
function(vkqat_font variable file package)
  file(GLOB_RECURSE found /usr/share/fonts/*/${file} /usr/share/fonts/${file} /usr/local/share/fonts/${file})
  if(found)
    list(GET found 0 first)
    set(${variable} ${first} PARENT_SCOPE)
  else()
    set(missing ${missing} "the font ${file} (${package})" PARENT_SCOPE)
  endif()
endfunction()
vkqat_font(font_regular Inter-Regular.otf fonts-inter)
vkqat_font(font_italic Inter-Italic.otf fonts-inter)
vkqat_font(font_bold Inter-SemiBold.otf fonts-inter)
vkqat_font(font_mono JetBrainsMono-Regular.ttf fonts-jetbrains-mono)
vkqat_font(font_wide DejaVuSans.ttf fonts-dejavu-core)
vkqat_font(font_cjk DroidSansFallbackFull.ttf fonts-droid-fallback)
vkqat_font(font_symbols Symbola_hint.ttf fonts-symbola)
vkqat_font(font_icons fontawesome-webfont.ttf fonts-font-awesome)

if(missing)
  list(JOIN missing ", " missing)
  vkqat_note("no desktop program (vkqat-app): ${missing} missing; tools/setup installs what it needs")
  set(VKQAT_APP OFF)
  return()
endif()
set(VKQAT_APP ON)
vkqat_note("desktop program vkqat-app with Dear ImGui ${version} in ${VKQAT_IMGUI}")

# Third-party code with its own warnings. The hooks of its test engine give the tests a list of all widgets.
add_library(vkqat_imgui STATIC
  ${VKQAT_IMGUI}/imgui.cpp ${VKQAT_IMGUI}/imgui_draw.cpp ${VKQAT_IMGUI}/imgui_tables.cpp ${VKQAT_IMGUI}/imgui_widgets.cpp
  ${VKQAT_IMGUI}/backends/imgui_impl_glfw.cpp ${VKQAT_IMGUI}/backends/imgui_impl_vulkan.cpp
  ${VKQAT_IMGUI}/misc/freetype/imgui_freetype.cpp)
target_include_directories(vkqat_imgui SYSTEM PUBLIC ${VKQAT_IMGUI} ${VKQAT_IMGUI}/backends ${VKQAT_IMGUI}/misc/freetype)
target_compile_definitions(vkqat_imgui PUBLIC IMGUI_IMPL_VULKAN_NO_PROTOTYPES IMGUI_ENABLE_FREETYPE IMGUI_ENABLE_TEST_ENGINE
                           IMGUI_USE_WCHAR32 IMGUI_DISABLE_OBSOLETE_FUNCTIONS)
target_compile_options(vkqat_imgui PRIVATE -w)
target_link_libraries(vkqat_imgui PUBLIC glfw Freetype::Freetype vkqat_vulkan_headers ${CMAKE_DL_LIBS})

# The fonts become part of the program.
set(fonts_source ${CMAKE_BINARY_DIR}/generated/fonts.cpp)
set(code "#include \"app/ui/fonts.h\"\n")
foreach(font regular italic bold mono wide cjk symbols icons)
  string(APPEND code "asm(\".section .rodata\\n.balign 16\\nvkqat_font_${font}: .incbin \\\"${font_${font}}\\\"\\n"
         "vkqat_font_${font}_end: .byte 0\\n.previous\\n\");\n"
         "extern \"C\" const unsigned char vkqat_font_${font}[], vkqat_font_${font}_end[];\n")
endforeach()
string(APPEND code "namespace vkqat {\nstd::span<const unsigned char> embedded_font(Font font) {\n    switch (font) {\n")
foreach(font regular italic bold mono wide cjk symbols icons)
  string(APPEND code "        case Font::${font}: return {vkqat_font_${font}, vkqat_font_${font}_end};\n")
endforeach()
string(APPEND code "    }\n    return {};\n}\n}  // namespace vkqat\n")
file(GENERATE OUTPUT ${fonts_source} CONTENT "${code}")
