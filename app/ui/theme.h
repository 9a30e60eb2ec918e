// Colours, fonts and measures of the interface.
#pragma once

#include <imgui.h>

namespace vkqat {

struct Palette {
    bool dark = true;
    ImU32 background, surface, raised, hover, active, border, edge, text, dim, faint, accent, accent_text, selection, code, good,
        warn, bad;
    ImU32 series[8];  // of plots
};
Palette make_palette(bool dark);

struct Fonts {
    ImFont *regular = nullptr, *italic = nullptr, *bold = nullptr, *mono = nullptr;
};

struct Theme {
    Palette colors;
    Fonts fonts;
    float scale = 1;  // of the display, times the user's choice
    float size = 17;  // of the text, before scaling

    float px(float value) const { return value * scale; }  // a length in the design's pixels
    void load_fonts();
    void apply(bool dark, float new_scale, float font_size);  // sets ImGui's style
};

ImVec4 to_vec(ImU32 color);
ImU32 with_alpha(ImU32 color, float alpha);

// Pictures of the icon font.
namespace icon {
inline constexpr const char *chat = "\xef\x82\x86", *models = "\xef\x86\xb2", *profile = "\xef\x83\xa4",
                            *quality = "\xef\x82\x80", *training = "\xef\x88\x81", *settings = "\xef\x80\x93",
                            *plus = "\xef\x81\xa7", *search = "\xef\x80\x82", *trash = "\xef\x87\xb8", *edit = "\xef\x81\x80",
                            *copy = "\xef\x83\x85", *again = "\xef\x80\xa1", *stop = "\xef\x81\x8d", *send = "\xef\x81\xa2",
                            *left = "\xef\x81\x93", *right = "\xef\x81\x94", *down = "\xef\x81\xb8", *pin = "\xef\x82\x8d",
                            *more = "\xef\x85\x81", *check = "\xef\x80\x8c", *folder = "\xef\x81\xbc", *close = "\xef\x80\x8d",
                            *columns = "\xef\x83\x9b", *download = "\xef\x80\x99", *upload = "\xef\x82\x93",
                            *play = "\xef\x81\x8b", *sliders = "\xef\x87\x9e", *warning = "\xef\x81\xb1", *chip = "\xef\x8b\x9b",
                            *clone = "\xef\x89\x8d", *forward = "\xef\x81\x8e", *keyboard = "\xef\x84\x9c",
                            *undo = "\xef\x83\xa2", *disk = "\xef\x82\xa0", *info = "\xef\x81\x9a", *eject = "\xef\x81\x92",
                            *bolt = "\xef\x83\xa7", *file = "\xef\x80\x96", *user = "\xef\x80\x87", *panel = "\xef\x83\x9b",
                            *home = "\xef\x80\x95", *up = "\xef\x81\xb7", *save = "\xef\x83\x87";
}

}  // namespace vkqat
