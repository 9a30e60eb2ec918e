// The interface's own widgets on top of Dear ImGui's, and a list of what is on the screen for tests and tools.
#pragma once

#include <imgui.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/ui/theme.h"

namespace vkqat::ui {

// ---- buttons. The label's part behind ## is its identity and, where only an icon shows, its name.
bool button(const Theme& theme, const char* icon, const char* label, ImVec2 size = {});          // filled, quiet
bool primary_button(const Theme& theme, const char* icon, const char* label, ImVec2 size = {});  // in the accent's colour
bool ghost_button(const Theme& theme, const char* icon, const char* label, ImVec2 size = {});    // text only
bool icon_button(const Theme& theme, const char* icon, const char* name, bool on = false, float side = 30);
bool danger_button(const Theme& theme, const char* icon, const char* label, ImVec2 size = {});

// ---- text
void text(const Theme& theme, ImU32 color, std::string_view text);
void small(const Theme& theme, ImU32 color, std::string_view text);
void wrapped(const Theme& theme, ImU32 color, std::string_view text);
void heading(const Theme& theme, std::string_view text, float factor = 1.35f);
void badge(const Theme& theme, ImU32 color, std::string_view text);
// As much of the text as fits, with an ellipsis.
std::string shortened(ImFont* font, float size, std::string_view text, float width);

// ---- others
void meter(const Theme& theme, float share, ImU32 color, ImVec2 size);
void hint(const Theme& theme, std::string_view text);  // a tooltip of the last widget
bool input(const char* id, const char* placeholder, std::string& text, ImGuiInputTextFlags flags = 0, float width = -1);
// Breaks lines where they are too long: read the text through without_soft_breaks() (app/core/soft_wrap.h).
bool input_multiline(const char* id, std::string& text, ImVec2 size, ImGuiInputTextFlags flags = 0);
// A panel with a border; end_card() closes it.
bool begin_card(const Theme& theme, const char* id, ImVec2 size = {0, 0}, ImGuiChildFlags flags = ImGuiChildFlags_AutoResizeY);
void end_card();
void centered(float width);  // the next widget's left edge, so that it stands in the middle
float right_edge();          // of the window's content, for SameLine()
bool fits(float width);      // whether that much is left behind the last widget in its line
void same_line_if_it_fits(float width, float spacing = -1);
void group_beside(float width, float spacing = -1);  // BeginGroup() in the same line if it fits, with its top at the line's
void at_right(float width);  // the next widget ends at the right edge: in the same line, or in the next where it does not fit
// What stands where there is nothing yet. True if its button was pressed.
bool empty_state(const Theme& theme, const char* icon, std::string_view title, std::string_view explanation,
                 const char* button_icon, const char* button_label);

// ---- what is on the screen
struct Widget {
    uint32_t id = 0;
    std::string window, label;
    float x = 0, y = 0, width = 0, height = 0;
    bool checked = false, checkable = false, open = false, openable = false, input = false, enabled = true,
         cut = false;  // cut: on its left or right
};
struct Note {  // text that is drawn and no widget
    std::string role, text;
};
struct Screen {
    std::vector<Widget> widgets;
    std::vector<Note> notes;
};
// From now on each frame's widgets are listed in `screen`, which must live as long as the context; clear it before each frame.
void watch(Screen* screen);
// Says what is drawn by hand.
void note(std::string_view role, std::string_view text);

}  // namespace vkqat::ui
