#include "app/ui/settings_view.h"

#include <algorithm>

#include "app/ui/widgets.h"

namespace vkqat {

void SettingsView::draw(ImVec2) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(28), t.px(24)));
    ImGui::BeginChild("settings", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float width = std::min(ImGui::GetContentRegionAvail().x, t.px(720));
    bool changed = false;
    const float labels = width > t.px(420) ? t.px(180) : t.px(96);
    auto field = [&] { ImGui::SetNextItemWidth(std::min(t.px(220), ImGui::GetContentRegionAvail().x)); };
    ui::heading(t, "Settings", 1.6f);
    ui::begin_card(t, "appearance", {width, 0});
    ui::heading(t, "Appearance", 1.1f);
    ImGui::AlignTextToFramePadding();
    ui::text(t, t.colors.dim, "Theme");
    for (auto [value, label] : {std::pair{"system", "System"}, {"light", "Light"}, {"dark", "Dark"}}) {
        if (value == std::string("system"))
            ImGui::SameLine(labels);
        else
            ui::same_line_if_it_fits(t.px(70), t.px(16));
        if (ImGui::RadioButton(label, app_.settings.theme == value)) app_.settings.theme = value, changed = true;
    }
    ImGui::AlignTextToFramePadding();
    ui::text(t, t.colors.dim, "Text size");
    ImGui::SameLine(labels);
    auto size = int(app_.settings.font_size);
    field();
    if (ImGui::SliderInt("##Text size", &size, 11, 24, "%d px")) app_.settings.font_size = size, changed = true;
    ImGui::AlignTextToFramePadding();
    ui::text(t, t.colors.dim, "Scale");
    ImGui::SameLine(labels);
    field();
    auto name = [&](double s) {
        return s == 0 ? fmt::format("The display's ({:.0f} %)", app_.display_scale * 100) : fmt::format("{:.0f} %", s * 100);
    };
    if (ImGui::BeginCombo("##Scale", name(app_.settings.scale).c_str())) {
        for (double s : {0.0, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0})
            if (ImGui::Selectable(name(s).c_str(), s == app_.settings.scale)) app_.settings.scale = s, changed = true;
        ImGui::EndCombo();
    }
    ui::end_card();

    ui::begin_card(t, "places", {width, 0});
    ui::heading(t, "Where things are kept", 1.1f);
    ui::text(t, t.colors.dim, "Settings");
    ImGui::SameLine(labels);
    ui::wrapped(t, t.colors.text, (config_folder() / "settings.json").string());
    ui::text(t, t.colors.dim, "Conversations");
    ImGui::SameLine(labels);
    ui::wrapped(t, t.colors.text, app_.store.folder().string());
    ui::end_card();

    ui::begin_card(t, "about", {width, 0});
    ui::heading(t, "About", 1.1f);
    ui::text(t, t.colors.dim, "vkqat " VKQAT_VERSION ", MIT licence");
    ui::wrapped(t, t.colors.dim,
                "Fonts: Inter, JetBrains Mono, DejaVu, Droid Sans Fallback, Symbola, Font Awesome; interface: Dear ImGui");
    ui::end_card();
    if (changed) {
        app_.set_theme();
        app_.save_settings();
    }
    ImGui::EndChild();
}

}  // namespace vkqat
