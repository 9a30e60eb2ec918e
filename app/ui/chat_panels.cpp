// What stands beside a conversation: the list of all of them, and the settings of this one.
#include <algorithm>
#include <ctime>

#include "app/core/bidi.h"
#include "app/core/soft_wrap.h"
#include "app/ui/chat_view.h"
#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

std::string when(int64_t seconds) {
    const std::time_t time = seconds, today = std::time(nullptr);
    std::tm then{}, now{};
    ::localtime_r(&time, &then);
    ::localtime_r(&today, &now);
    if (then.tm_year == now.tm_year && then.tm_yday == now.tm_yday) return fmt::format("{:02}:{:02}", then.tm_hour, then.tm_min);
    return fmt::format("{:04}-{:02}-{:02}", then.tm_year + 1900, then.tm_mon + 1, then.tm_mday);
}
}  // namespace

void ChatView::sidebar(float width) {
    Theme& t = app_.theme;
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(12), t.px(12)));
    ImGui::BeginChild("conversations", {width, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    if (ui::primary_button(t, icon::plus, "New chat", {ImGui::GetContentRegionAvail().x, t.px(36)})) new_chat();
    ui::hint(t, "Ctrl+N");
    if (focus_search_) ImGui::SetKeyboardFocusHere();
    focus_search_ = false;
    if (ui::input("##Search", "Search all chats", search_)) app_.chats.search(search_);
    ImGui::Dummy({0, t.px(2)});
    if (!search_.empty()) app_.chats.search_step(0.004);

    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(t.px(6), t.px(2)));
    ImGui::BeginChild("list", {0, 0});
    std::vector<Conversation*> list = app_.chats.sorted();
    if (!search_.empty())
        std::erase_if(list, [&](Conversation* c) {
            return std::find(app_.chats.hits().begin(), app_.chats.hits().end(), c->id) == app_.chats.hits().end();
        });
    if (list.empty()) {
        ImGui::Dummy({0, t.px(8)});
        ui::small(t, t.colors.faint, search_.empty() ? "No chats yet" : "Nothing found");
    }
    ImGuiListClipper clipper;
    clipper.Begin(int(list.size()), t.px(36) + ImGui::GetStyle().ItemSpacing.y);
    std::string to_open;
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; i++)
            conversation_row(*list[size_t(i)], ImGui::GetContentRegionAvail().x);
    ImGui::EndChild();
    ImGui::PopStyleVar(2);
    ImGui::EndChild();
    ImGui::PopStyleColor();
}

void ChatView::conversation_row(Conversation& c, float width) {
    Theme& t = app_.theme;
    ImGui::PushID(c.id.c_str());
    const ImVec2 at = ImGui::GetCursorScreenPos();
    const float height = t.px(36);
    const bool selected = c.id == app_.settings.conversation;
    const std::string id = c.id;
    if (renaming_ == c.id) {
        if (focus_rename_) ImGui::SetKeyboardFocusHere();
        focus_rename_ = false;
        const bool done = ui::input("##Rename", "Title", rename_text_,
                                    ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_AutoSelectAll);
        if (done || ImGui::IsItemDeactivated()) {
            if (!ImGui::IsKeyPressed(ImGuiKey_Escape)) {
                c.title = rename_text_;
                c.titled = !rename_text_.empty();
                app_.chats.changed(c);
            }
            renaming_.clear();
        }
        ImGui::PopID();
        return;
    }
    const std::string title = c.shown_title();
    ImGui::SetNextItemAllowOverlap();
    if (ImGui::InvisibleButton((title + "##row").c_str(), {width, height}, ImGuiButtonFlags_EnableNav))
        open(id), over_ = Over::none;
    const bool hovered = ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenBlockedByActiveItem) || ImGui::IsItemFocused();
    if (ImGui::IsItemHovered() && ImGui::IsMouseDoubleClicked(0)) renaming_ = c.id, rename_text_ = title, focus_rename_ = true;
    const bool menu = ImGui::IsPopupOpen("menu");
    ImDrawList* draw = ImGui::GetWindowDrawList();
    if (selected || hovered || menu)
        draw->AddRectFilled(at, {at.x + width, at.y + height}, selected ? t.colors.hover : with_alpha(t.colors.hover, 0.6f),
                            t.px(6));
    const float size = t.size * t.scale * 0.95f, right = hovered || menu || selected ? t.px(34) : t.px(10);
    float x = at.x + t.px(10);
    if (c.pinned) {
        draw->AddText(t.fonts.regular, size * 0.85f, {x, at.y + (height - size * 0.85f) / 2}, t.colors.accent, icon::pin);
        x += t.px(18);
    }
    const std::string shown = in_visual_order(ui::shortened(t.fonts.regular, size, title, at.x + width - right - x));
    draw->AddText(t.fonts.regular, size, {x, at.y + (height - size) / 2 - t.px(1)}, selected ? t.colors.text : t.colors.dim,
                  shown.c_str());
    if (app_.chats.generating(c)) draw->AddCircleFilled({at.x + width - t.px(42), at.y + height / 2}, t.px(3), t.colors.accent);
    if (hovered || menu || selected) {
        const ImVec2 after = ImGui::GetCursorScreenPos();
        ImGui::SetCursorScreenPos({at.x + width - t.px(32), at.y + t.px(4)});
        if (ui::icon_button(t, icon::more, "More", menu, 28)) ImGui::OpenPopup("menu");
        ImGui::SetCursorScreenPos(after);
        ImGui::Dummy({0, 0});
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(8), t.px(8)));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(t.px(8), t.px(8)));
    if (ImGui::BeginPopup("menu")) {
        if (ImGui::MenuItem("Rename")) renaming_ = c.id, rename_text_ = title, focus_rename_ = true;
        if (ImGui::MenuItem(c.pinned ? "Unpin" : "Pin")) {
            c.pinned = !c.pinned;
            app_.chats.changed(c);
        }
        if (ImGui::MenuItem("Duplicate")) open(app_.chats.duplicate(c).id);
        if (ImGui::MenuItem("Export as Markdown")) open(id), export_current(true);
        if (ImGui::MenuItem("Export as JSON")) open(id), export_current(false);
        ImGui::Separator();
        if (ImGui::MenuItem("Delete")) {
            open(id);
            delete_current();
        }
        ImGui::EndPopup();
    }
    ImGui::PopStyleVar(2);
    ImGui::PopID();
}
// The program's presets set how answers are sampled; the user's own also bring their system prompt and length.
bool ChatView::preset_picker(Conversation& c) {
    Theme& t = app_.theme;
    bool changed = false;
    const float buttons = 2 * t.px(34);
    ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x - buttons);
    std::vector<Preset>& own = app_.presets;
    auto is_own = [&](const std::string& name) {
        return std::find_if(own.begin(), own.end(), [&](const Preset& p) { return p.name == name; });
    };
    if (ImGui::BeginCombo("##Preset", c.settings.preset.empty() ? "Model's own" : c.settings.preset.c_str())) {
        for (const Preset& preset : built_in_presets())
            if (ImGui::Selectable(preset.name.c_str(), preset.name == c.settings.preset)) {
                const std::string system = c.settings.system;
                const int64_t max_tokens = c.settings.max_tokens;
                c.settings = preset.settings;
                c.settings.system = system;
                c.settings.max_tokens = max_tokens;
                changed = true;
            }
        if (!own.empty()) ImGui::Separator();
        for (const Preset& preset : own)
            if (ImGui::Selectable(preset.name.c_str(), preset.name == c.settings.preset))
                c.settings = preset.settings, changed = true;
        ImGui::EndCombo();
    }
    ImGui::SameLine(0, t.px(4));
    if (ui::icon_button(t, icon::save, "Save as a preset", naming_preset_)) {
        naming_preset_ = !naming_preset_;
        focus_preset_ = naming_preset_;
        preset_name_ = is_own(c.settings.preset) == own.end() ? "" : c.settings.preset;
    }
    ImGui::SameLine(0, t.px(4));
    const auto chosen = is_own(c.settings.preset);
    ImGui::BeginDisabled(chosen == own.end());
    if (ui::icon_button(t, icon::trash, "Delete this preset")) {
        const Preset gone = *chosen;
        own.erase(chosen);
        app_.save_presets();
        c.settings.preset.clear();
        changed = true;
        app_.say(fmt::format("Deleted the preset “{}”", gone.name), false, [this, gone] {
            app_.presets.push_back(gone);
            app_.save_presets();
        });
    }
    ImGui::EndDisabled();
    if (!naming_preset_) return changed;
    if (focus_preset_) ImGui::SetKeyboardFocusHere();
    focus_preset_ = false;
    const bool enter =
        ui::input("##Preset name", "Name of the preset, then Enter", preset_name_, ImGuiInputTextFlags_EnterReturnsTrue);
    if (ImGui::IsItemDeactivated() && ImGui::IsKeyPressed(ImGuiKey_Escape)) naming_preset_ = false;
    if (enter && !preset_name_.empty()) {
        const std::vector<Preset> built_in = built_in_presets();
        if (std::any_of(built_in.begin(), built_in.end(), [&](const Preset& p) { return p.name == preset_name_; })) {
            app_.say(fmt::format("“{}” is one of the program's presets: choose another name", preset_name_), true);
            return changed;
        }
        c.settings.preset = preset_name_;
        if (const auto old = is_own(preset_name_); old != own.end())
            old->settings = c.settings;
        else
            own.push_back({preset_name_, c.settings});
        app_.save_presets();
        naming_preset_ = false;
        changed = true;
        app_.say(fmt::format("Saved the preset “{}”", preset_name_));
    }
    return changed;
}

void ChatView::settings_panel(Conversation& c, float width) {
    Theme& t = app_.theme;
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::BeginChild("settings", {width, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    bool changed = false;
    ui::heading(t, "This chat", 1.1f);
    ui::small(t, t.colors.dim, "Preset");
    changed |= preset_picker(c);
    ui::small(t, t.colors.dim, "System prompt");
    if (system_of_ != c.id || (without_soft_breaks(system_) != c.settings.system && !system_active_))
        system_ = c.settings.system, system_of_ = c.id;
    if (ui::input_multiline("##System prompt", system_, {-1, t.px(110)}) && without_soft_breaks(system_) != c.settings.system)
        c.settings.system = without_soft_breaks(system_), changed = true;
    system_active_ = ImGui::IsItemActive();
    ImGui::Dummy({0, t.px(4)});
    SamplingChoice& s = c.settings.sampling;
    changed |= ImGui::Checkbox("Greedy", &s.greedy);
    ui::hint(t, "Always the most likely token");
    ImGui::BeginDisabled(s.greedy);
    auto slider = [&](const char* name, std::optional<double>& value, double from, double to, double standard, const char* what) {
        bool own = value.has_value();
        ImGui::PushID(name);
        if (ImGui::Checkbox(name, &own)) value = own ? std::optional(standard) : std::nullopt, changed = true;
        ui::hint(t, what);
        if (value) {
            auto v = float(*value);
            ImGui::SetNextItemWidth(-1);
            if (ImGui::SliderFloat("##value", &v, float(from), float(to), "%.2f")) value = v, changed = true;
        }
        ImGui::PopID();
    };
    slider("Temperature", s.temperature, 0, 2, 0.7, "0: always the most likely token; 1: as the model has it");
    slider("Top-p", s.top_p, 0, 1, 0.95, "Only the likeliest tokens that make up this share together");
    slider("Min-p", s.min_p, 0, 1, 0.05, "Only tokens with at least this share of the best one's probability");
    slider("Repetition penalty", s.repetition_penalty, 1, 2, 1.1, "Above 1: tokens of the context become less likely");
    bool top_k = s.top_k.has_value();
    if (ImGui::Checkbox("Top-k", &top_k)) s.top_k = top_k ? std::optional<int64_t>(40) : std::nullopt, changed = true;
    if (s.top_k) {
        int k = int(*s.top_k);
        ImGui::SetNextItemWidth(-1);
        if (ImGui::InputInt("##Top-k value", &k)) s.top_k = std::max(0, k), changed = true;
    }
    bool seed = s.seed.has_value();
    if (ImGui::Checkbox("Seed", &seed)) s.seed = seed ? std::optional<uint64_t>(1) : std::nullopt, changed = true;
    ui::hint(t, "The same seed gives the same text");
    if (s.seed) {
        int value = int(*s.seed);
        ImGui::SetNextItemWidth(-1);
        if (ImGui::InputInt("##Seed value", &value)) s.seed = uint64_t(std::max(0, value)), changed = true;
    }
    ImGui::EndDisabled();
    ui::small(t, t.colors.dim, "Longest answer, tokens");
    int most = int(c.settings.max_tokens);
    ImGui::SetNextItemWidth(-1);
    if (ImGui::InputInt("##Longest answer", &most, 64, 512)) c.settings.max_tokens = std::clamp(most, 1, 1 << 24), changed = true;
    ImGui::Dummy({0, t.px(8)});
    ui::small(t, t.colors.faint,
              fmt::format("{} messages, {}; last {}", c.messages.size(), human_bytes(double(c.bytes())), when(c.updated)));
    const float third = (ImGui::GetContentRegionAvail().x - 2 * t.px(8)) / 3;
    if (ui::button(t, nullptr, "Markdown", {third, 0})) export_current(true);
    ui::hint(t, "Export this chat as Markdown");
    ImGui::SameLine(0, t.px(8));
    if (ui::button(t, nullptr, "JSON", {third, 0})) export_current(false);
    ui::hint(t, "Export this chat as JSON, with all its versions");
    ImGui::SameLine(0, t.px(8));
    if (ui::button(t, nullptr, "Import", {third, 0})) import();
    ui::hint(t, "Import a chat");
    if (changed) app_.chats.changed(c);
    ImGui::EndChild();
    ImGui::PopStyleColor();
}

}  // namespace vkqat
