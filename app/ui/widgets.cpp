#include "app/ui/widgets.h"

#include <imgui_internal.h>

#include <algorithm>
#include <cmath>

#include "app/core/soft_wrap.h"
#include "runtime/text/utf8.h"

namespace vkqat::ui {
namespace {

// "icon  Label##id", or "icon##name" where only an icon shows.
std::string face(const char* icon, const char* label) {
    if (!icon) return label;
    if (std::string_view(label).starts_with("##")) return std::string(icon) + label;
    return std::string(icon) + "  " + label;
}

struct Colors {
    Colors(ImU32 base, ImU32 hover, ImU32 active, ImU32 text) {
        ImGui::PushStyleColor(ImGuiCol_Button, base);
        ImGui::PushStyleColor(ImGuiCol_ButtonHovered, hover);
        ImGui::PushStyleColor(ImGuiCol_ButtonActive, active);
        ImGui::PushStyleColor(ImGuiCol_Text, text);
        ImGui::PushStyleColor(ImGuiCol_Border, 0);
    }
    ~Colors() { ImGui::PopStyleColor(5); }
};

struct Editor {
    std::string* text;
    float width = 0;  // of lines; 0: they are not broken

    static int edit(ImGuiInputTextCallbackData* data) {
        auto* self = static_cast<Editor*>(data->UserData);
        if (data->EventFlag == ImGuiInputTextFlags_CallbackResize) {
            self->text->resize(size_t(data->BufTextLen));
            data->Buf = self->text->data();
        } else if (data->EventFlag == ImGuiInputTextFlags_CallbackAlways && self->width > 0) {
            self->wrap(*data);
        }
        return 0;
    }

    void wrap(ImGuiInputTextCallbackData& data) const {
        const std::string_view old(data.Buf, size_t(data.BufTextLen));
        // Not between the two halves of a break.
        if (data.CursorPos >= 3 && old.substr(size_t(data.CursorPos) - 3).starts_with(soft_break) &&
            data.SelectionStart == data.SelectionEnd)
            data.CursorPos -= 3, data.SelectionStart = data.SelectionEnd = data.CursorPos;
        int cursor = data.CursorPos, start = data.SelectionStart, end = data.SelectionEnd;
        const std::string plain = without_soft_breaks(old, {&cursor, &start, &end});
        auto width_of = [](std::string_view t) { return ImGui::CalcTextSize(t.data(), t.data() + t.size()).x; };
        const std::string wrapped = with_soft_breaks(plain, width, width_of, {&cursor, &start, &end});
        if (wrapped == old) return;
        data.DeleteChars(0, data.BufTextLen);
        data.InsertChars(0, wrapped.c_str(), wrapped.c_str() + wrapped.size());
        data.CursorPos = cursor, data.SelectionStart = start, data.SelectionEnd = end;
    }
};

}  // namespace

bool button(const Theme& theme, const char* icon, const char* label, ImVec2 size) {
    Colors colors(theme.colors.raised, theme.colors.hover, theme.colors.active, theme.colors.text);
    return ImGui::Button(face(icon, label).c_str(), size);
}

bool primary_button(const Theme& theme, const char* icon, const char* label, ImVec2 size) {
    const ImU32 a = theme.colors.accent;
    Colors colors(a, with_alpha(a, 0.88f), with_alpha(a, 0.75f), theme.colors.accent_text);
    return ImGui::Button(face(icon, label).c_str(), size);
}

bool danger_button(const Theme& theme, const char* icon, const char* label, ImVec2 size) {
    const ImU32 a = theme.colors.bad;
    Colors colors(with_alpha(a, 0.9f), a, with_alpha(a, 0.75f), theme.colors.accent_text);
    return ImGui::Button(face(icon, label).c_str(), size);
}

bool ghost_button(const Theme& theme, const char* icon, const char* label, ImVec2 size) {
    Colors colors(0, theme.colors.hover, theme.colors.active, theme.colors.dim);
    return ImGui::Button(face(icon, label).c_str(), size);
}

bool icon_button(const Theme& theme, const char* icon, const char* name, bool on, float side) {
    Colors colors(on ? theme.colors.hover : 0, theme.colors.hover, theme.colors.active,
                  on ? theme.colors.text : theme.colors.dim);
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(0, 0));
    const bool pressed = ImGui::Button((std::string(icon) + "##" + name).c_str(), {theme.px(side), theme.px(side)});
    ImGui::PopStyleVar();
    hint(theme, name);
    return pressed;
}

void text(const Theme&, ImU32 color, std::string_view t) {
    ImGui::PushStyleColor(ImGuiCol_Text, color);
    ImGui::TextUnformatted(t.data(), t.data() + t.size());
    ImGui::PopStyleColor();
    note("text", t);
}

void small(const Theme& theme, ImU32 color, std::string_view t) {
    ImGui::PushFont(nullptr, theme.size * 0.86f);
    text(theme, color, t);
    ImGui::PopFont();
}

void wrapped(const Theme& theme, ImU32 color, std::string_view t) {
    ImGui::PushTextWrapPos(0);
    text(theme, color, t);
    ImGui::PopTextWrapPos();
}

void heading(const Theme& theme, std::string_view t, float factor) {
    ImGui::PushFont(theme.fonts.bold, theme.size * factor);
    text(theme, theme.colors.text, t);
    ImGui::PopFont();
}

void badge(const Theme& theme, ImU32 color, std::string_view t) {
    ImGui::PushFont(nullptr, theme.size * 0.82f);
    const ImVec2 size = ImGui::CalcTextSize(t.data(), t.data() + t.size()), at = ImGui::GetCursorScreenPos();
    const ImVec2 padding{theme.px(7), theme.px(2)};
    ImGui::Dummy({size.x + 2 * padding.x, size.y + 2 * padding.y});
    ImDrawList* draw = ImGui::GetWindowDrawList();
    draw->AddRectFilled(at, {at.x + size.x + 2 * padding.x, at.y + size.y + 2 * padding.y}, with_alpha(color, 0.18f),
                        theme.px(5));
    draw->AddText({at.x + padding.x, at.y + padding.y}, color, t.data(), t.data() + t.size());
    ImGui::PopFont();
    note("badge", t);
}

std::string shortened(ImFont* font, float size, std::string_view t, float width) {
    if (font->CalcTextSizeA(size, FLT_MAX, 0, t.data(), t.data() + t.size()).x <= width) return std::string(t);
    const char* end = nullptr;
    const float dots = font->CalcTextSizeA(size, FLT_MAX, 0, "…").x;
    font->CalcTextSizeA(size, std::max(0.0f, width - dots), 0, t.data(), t.data() + t.size(), &end);
    return std::string(t.data(), end) + "…";
}

void meter(const Theme& theme, float share, ImU32 color, ImVec2 size) {
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImDrawList* draw = ImGui::GetWindowDrawList();
    ImGui::Dummy(size);
    draw->AddRectFilled(at, {at.x + size.x, at.y + size.y}, theme.colors.active, size.y / 2);
    share = std::clamp(share, 0.0f, 1.0f);
    if (share > 0) draw->AddRectFilled(at, {at.x + std::max(size.y, size.x * share), at.y + size.y}, color, size.y / 2);
}

void hint(const Theme& theme, std::string_view t) {
    if (!ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip | ImGuiHoveredFlags_AllowWhenDisabled)) return;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(theme.px(10), theme.px(6)));
    if (ImGui::BeginTooltip()) {
        ImGui::PushTextWrapPos(theme.px(360));
        ImGui::TextUnformatted(t.data(), t.data() + t.size());
        ImGui::PopTextWrapPos();
        ImGui::EndTooltip();
    }
    ImGui::PopStyleVar();
}

bool input(const char* id, const char* placeholder, std::string& t, ImGuiInputTextFlags flags, float width) {
    ImGui::SetNextItemWidth(width);
    Editor editor{&t};
    return ImGui::InputTextWithHint(id, placeholder, t.data(), t.capacity() + 1, flags | ImGuiInputTextFlags_CallbackResize,
                                    Editor::edit, &editor);
}

bool input_multiline(const char* id, std::string& t, ImVec2 size, ImGuiInputTextFlags flags) {
    const ImGuiStyle& style = ImGui::GetStyle();
    const float width = size.x > 0 ? size.x : ImGui::GetContentRegionAvail().x;
    Editor editor{&t, std::max(20.0f, width - 2 * style.FramePadding.x - style.ScrollbarSize - 2)};
    return ImGui::InputTextMultiline(
        id, t.data(), t.capacity() + 1, size,
        flags | ImGuiInputTextFlags_CallbackResize | ImGuiInputTextFlags_CallbackAlways | ImGuiInputTextFlags_NoHorizontalScroll,
        Editor::edit, &editor);
}

bool begin_card(const Theme& theme, const char* id, ImVec2 size, ImGuiChildFlags flags) {
    ImGui::PushStyleColor(ImGuiCol_ChildBg, theme.colors.surface);
    ImGui::PushStyleColor(ImGuiCol_Border, theme.colors.border);
    ImGui::PushStyleVar(ImGuiStyleVar_ChildBorderSize, 1);
    ImGui::PushStyleVar(ImGuiStyleVar_ChildRounding, theme.px(10));
    const bool open = ImGui::BeginChild(id, size, flags | ImGuiChildFlags_Borders);
    ImGui::PopStyleVar(2);
    ImGui::PopStyleColor(2);
    return open;
}

void end_card() { ImGui::EndChild(); }

void centered(float width) {
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(0.0f, (ImGui::GetContentRegionAvail().x - width) / 2));
}

float right_edge() {
    const ImGuiWindow* window = ImGui::GetCurrentWindow();
    return window->ContentRegionRect.Max.x - window->Pos.x + window->Scroll.x;
}

bool fits(float width) {
    return ImGui::GetItemRectMax().x - ImGui::GetWindowPos().x + ImGui::GetStyle().ItemSpacing.x + width <= right_edge() + 1;
}

void same_line_if_it_fits(float width, float spacing) {
    if (fits(width)) ImGui::SameLine(0, spacing);
}

void group_beside(float width, float spacing) {
    same_line_if_it_fits(width, spacing);
    ImGui::GetCurrentWindow()->DC.CurrLineTextBaseOffset = 0;  // it does not stand on the line of the text before it
    ImGui::BeginGroup();
}

void at_right(float width) {
    if (fits(width))
        ImGui::SameLine(right_edge() - width);
    else
        ImGui::SetCursorPosX(std::max(ImGui::GetCursorPosX(), right_edge() - width));
}

bool empty_state(const Theme& theme, const char* icon, std::string_view title, std::string_view explanation,
                 const char* button_icon, const char* button_label) {
    const float room = ImGui::GetContentRegionAvail().x, width = std::min(room, theme.px(460)), left = ImGui::GetCursorPosX();
    ImGui::Dummy({0, std::max(theme.px(8), ImGui::GetContentRegionAvail().y * 0.5f - theme.px(110))});
    auto line = [&](ImFont* font, float factor, ImU32 color, std::string_view t) {
        ImGui::PushFont(font, theme.size * factor);
        const float natural = ImGui::CalcTextSize(t.data(), t.data() + t.size()).x, shown = std::min(width, natural + 1);
        ImGui::SetCursorPosX(left + (room - shown) / 2);
        ImGui::PushTextWrapPos(left + (room + shown) / 2);
        text(theme, color, t);
        ImGui::PopTextWrapPos();
        ImGui::PopFont();
    };
    line(theme.fonts.regular, 2.2f, theme.colors.faint, icon);
    line(theme.fonts.bold, 1.2f, theme.colors.text, title);
    line(theme.fonts.regular, 1, theme.colors.dim, explanation);
    ImGui::Dummy({0, theme.px(4)});
    const float button_width = theme.px(190);
    ImGui::SetCursorPosX(left + (room - button_width) / 2);
    return primary_button(theme, button_icon, button_label, {button_width, theme.px(38)});
}

void watch(Screen* screen) {
    ImGuiContext& context = *ImGui::GetCurrentContext();
    context.TestEngine = screen;
    context.TestEngineHookItems = screen != nullptr;
}

void note(std::string_view role, std::string_view t) {
    if (auto* screen = static_cast<Screen*>(ImGui::GetCurrentContext()->TestEngine))
        screen->notes.push_back({std::string(role), std::string(t)});
}

}  // namespace vkqat::ui

// What Dear ImGui calls for each widget when TestEngineHookItems is set.
void ImGuiTestEngineHook_ItemAdd(ImGuiContext* context, ImGuiID id, const ImRect& box, const ImGuiLastItemData* data) {
    auto* screen = static_cast<vkqat::ui::Screen*>(context->TestEngine);
    if (!screen || id == 0) return;
    vkqat::ui::Widget widget;
    widget.id = id;
    widget.window = context->CurrentWindow ? context->CurrentWindow->Name : "";
    ImRect visible = box;
    if (context->CurrentWindow) visible.ClipWith(context->CurrentWindow->ClipRect);
    if (visible.GetWidth() <= 0 || visible.GetHeight() <= 0) return;
    widget.x = visible.Min.x, widget.y = visible.Min.y, widget.width = visible.GetWidth(), widget.height = visible.GetHeight();
    widget.cut = visible.GetWidth() < box.GetWidth() - 2;
    widget.enabled = !data || !(data->ItemFlags & ImGuiItemFlags_Disabled);
    screen->widgets.push_back(std::move(widget));
}

void ImGuiTestEngineHook_ItemInfo(ImGuiContext* context, ImGuiID id, const char* label, ImGuiItemStatusFlags flags) {
    auto* screen = static_cast<vkqat::ui::Screen*>(context->TestEngine);
    if (!screen || !label) return;
    for (auto widget = screen->widgets.rbegin(); widget != screen->widgets.rend(); ++widget) {
        if (widget->id != id) continue;
        std::string_view name = label;
        const size_t hashes = name.find("##");
        // An icon is no name.
        while (!name.empty() && vkqat::utf8_at(name, 0).code >= 0xe000 && vkqat::utf8_at(name, 0).code < 0xf900)
            name.remove_prefix(vkqat::utf8_at(name, 0).length);
        while (name.starts_with(' ')) name.remove_prefix(1);
        if (name.starts_with("##"))
            name.remove_prefix(2);
        else if (hashes != name.npos)
            name = name.substr(0, name.find("##"));
        widget->label = name;
        widget->checkable = flags & ImGuiItemStatusFlags_Checkable, widget->checked = flags & ImGuiItemStatusFlags_Checked;
        widget->openable = flags & ImGuiItemStatusFlags_Openable, widget->open = flags & ImGuiItemStatusFlags_Opened;
        widget->input = flags & ImGuiItemStatusFlags_Inputable;
        return;
    }
}

void ImGuiTestEngineHook_Log(ImGuiContext*, const char*, ...) {}
const char* ImGuiTestEngine_FindItemDebugLabel(ImGuiContext*, ImGuiID) { return nullptr; }
