#include "app/ui/theme.h"

#include <imgui_freetype.h>

#include <algorithm>
#include <cstdint>

#include "app/ui/fonts.h"

namespace vkqat {
namespace {

constexpr ImU32 rgb(uint32_t hex, float alpha = 1) {
    return IM_COL32(hex >> 16 & 255, hex >> 8 & 255, hex & 255, int(alpha * 255 + 0.5f));
}

ImFont* add(Font font, bool merge = false) {
    const auto bytes = embedded_font(font);
    ImFontConfig config;
    config.FontDataOwnedByAtlas = false;
    config.MergeMode = merge;
    config.FontLoaderFlags = ImGuiFreeTypeLoaderFlags_LightHinting;
    if (font == Font::icons) config.PixelSnapH = true;
    return ImGui::GetIO().Fonts->AddFontFromMemoryTTF(const_cast<unsigned char*>(bytes.data()), int(bytes.size()), 0, &config);
}

}  // namespace

Palette make_palette(bool dark) {
    Palette p{};
    p.dark = dark;
    if (dark) {
        p.background = rgb(0x16181d), p.surface = rgb(0x1c1f26), p.raised = rgb(0x252932), p.hover = rgb(0x2d323d),
        p.active = rgb(0x363c49);
        p.border = rgb(0x2f3440), p.edge = rgb(0x414959), p.text = rgb(0xe6e8ec), p.dim = rgb(0x9aa2b1), p.faint = rgb(0x7f8797),
        p.accent = rgb(0x5b8def);
        p.accent_text = rgb(0xffffff), p.selection = rgb(0x5b8def, 0.35f), p.code = rgb(0x111318), p.good = rgb(0x4cb782);
        p.warn = rgb(0xe0a63a), p.bad = rgb(0xe5675f);
        const uint32_t series[8] = {0x5b8def, 0xe0a63a, 0x4cb782, 0xe5675f, 0xa987e8, 0x4fc0c9, 0xe587b4, 0x9aa2b1};
        for (int i = 0; i < 8; i++) p.series[i] = rgb(series[i]);
    } else {
        p.background = rgb(0xffffff), p.surface = rgb(0xf6f7f9), p.raised = rgb(0xeceef2), p.hover = rgb(0xe3e6ec),
        p.active = rgb(0xd7dbe4);
        p.border = rgb(0xdfe2e8), p.edge = rgb(0xc3c9d4), p.text = rgb(0x1d2129), p.dim = rgb(0x5b6372), p.faint = rgb(0x6c7482),
        p.accent = rgb(0x2f6bde);
        p.accent_text = rgb(0xffffff), p.selection = rgb(0x2f6bde, 0.22f), p.code = rgb(0xf4f5f8), p.good = rgb(0x1f8f5a);
        p.warn = rgb(0xb27a0c), p.bad = rgb(0xc9403a);
        const uint32_t series[8] = {0x2f6bde, 0xb27a0c, 0x1f8f5a, 0xc9403a, 0x7a4fd0, 0x14808a, 0xb8457f, 0x5b6372};
        for (int i = 0; i < 8; i++) p.series[i] = rgb(series[i]);
    }
    return p;
}

ImVec4 to_vec(ImU32 color) { return ImGui::ColorConvertU32ToFloat4(color); }
ImU32 with_alpha(ImU32 color, float alpha) { return (color & 0x00ffffff) | ImU32(float(color >> 24) * alpha) << 24; }

void Theme::load_fonts() {
    auto family = [](Font font) {
        ImFont* result = add(font);
        add(Font::icons, true);
        add(Font::wide, true);
        add(Font::cjk, true);
        add(Font::symbols, true);
        return result;
    };
    fonts.regular = family(Font::regular);
    fonts.italic = family(Font::italic);
    fonts.bold = family(Font::bold);
    fonts.mono = family(Font::mono);
}

void Theme::apply(bool dark, float new_scale, float font_size) {
    colors = make_palette(dark);
    scale = new_scale;
    size = font_size * 1.19f;  // Dear ImGui counts from the ascender to the descender, people count the em
    ImGuiStyle style;
    style.WindowPadding = {16, 16};
    style.FramePadding = {10, 6};
    style.ItemSpacing = {8, 8};
    style.ItemInnerSpacing = {6, 6};
    style.CellPadding = {8, 6};
    style.IndentSpacing = 16;
    style.ScrollbarSize = 10;
    style.GrabMinSize = 12;
    style.WindowBorderSize = 0;
    style.ChildBorderSize = 0;
    style.PopupBorderSize = 1;
    style.FrameBorderSize = 1;  // what can be written or switched has an edge; buttons have none (widgets.cpp)
    style.WindowRounding = 10;
    style.ChildRounding = 0;
    style.FrameRounding = 6;
    style.PopupRounding = 8;
    style.ScrollbarRounding = 6;
    style.GrabRounding = 6;
    style.TabRounding = 6;
    style.SeparatorTextBorderSize = 1;
    style.DisabledAlpha = 0.45f;
    style.ScaleAllSizes(scale);
    style.FontSizeBase = size;
    style.FontScaleDpi = scale;
    ImVec4* c = style.Colors;
    auto set = [&](ImGuiCol which, ImU32 color) { c[which] = to_vec(color); };
    const Palette& p = colors;
    set(ImGuiCol_Text, p.text), set(ImGuiCol_TextDisabled, p.faint), set(ImGuiCol_WindowBg, p.background),
        set(ImGuiCol_ChildBg, 0);
    set(ImGuiCol_PopupBg, p.dark ? p.raised : p.background), set(ImGuiCol_Border, p.edge), set(ImGuiCol_FrameBg, p.raised);
    set(ImGuiCol_FrameBgHovered, p.hover), set(ImGuiCol_FrameBgActive, p.hover), set(ImGuiCol_TitleBg, p.surface);
    set(ImGuiCol_TitleBgActive, p.surface), set(ImGuiCol_MenuBarBg, p.surface), set(ImGuiCol_ScrollbarBg, 0);
    set(ImGuiCol_ScrollbarGrab, p.active), set(ImGuiCol_ScrollbarGrabHovered, p.faint),
        set(ImGuiCol_ScrollbarGrabActive, p.faint);
    set(ImGuiCol_CheckMark, p.accent), set(ImGuiCol_SliderGrab, p.accent), set(ImGuiCol_SliderGrabActive, p.accent);
    set(ImGuiCol_Button, p.raised), set(ImGuiCol_ButtonHovered, p.hover), set(ImGuiCol_ButtonActive, p.active);
    set(ImGuiCol_Header, p.hover), set(ImGuiCol_HeaderHovered, p.hover), set(ImGuiCol_HeaderActive, p.active);
    set(ImGuiCol_Separator, p.border), set(ImGuiCol_SeparatorHovered, p.accent), set(ImGuiCol_SeparatorActive, p.accent);
    set(ImGuiCol_ResizeGrip, 0), set(ImGuiCol_ResizeGripHovered, p.active), set(ImGuiCol_ResizeGripActive, p.active);
    set(ImGuiCol_Tab, 0), set(ImGuiCol_TabHovered, p.hover), set(ImGuiCol_TabSelected, p.raised),
        set(ImGuiCol_TabSelectedOverline, 0);
    set(ImGuiCol_PlotLines, p.accent), set(ImGuiCol_PlotHistogram, p.accent), set(ImGuiCol_TableHeaderBg, p.surface);
    set(ImGuiCol_TableBorderStrong, p.border), set(ImGuiCol_TableBorderLight, p.border), set(ImGuiCol_TableRowBg, 0);
    set(ImGuiCol_TableRowBgAlt, with_alpha(p.raised, 0.35f)), set(ImGuiCol_TextSelectedBg, p.selection),
        set(ImGuiCol_NavCursor, p.accent);
    set(ImGuiCol_InputTextCursor, p.accent), set(ImGuiCol_DragDropTarget, p.accent), set(ImGuiCol_TextLink, p.accent);
    set(ImGuiCol_ModalWindowDimBg, IM_COL32(0, 0, 0, p.dark ? 140 : 80));
    ImGui::GetStyle() = style;
}

}  // namespace vkqat
