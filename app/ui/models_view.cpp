#include "app/ui/models_view.h"

#include <algorithm>
#include <ctime>

#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

std::string ago(int64_t then) {
    if (then == 0) return "never used";
    const double s = double(std::time(nullptr) - then);
    if (s < 90) return "used just now";
    if (s < 3600) return fmt::format("used {:.0f} min ago", s / 60);
    if (s < 86400) return fmt::format("used {:.0f} h ago", s / 3600);
    return fmt::format("used {:.0f} days ago", s / 86400);
}

}  // namespace

void ModelsView::add_folder() {
    app_.open_dialog("Add a folder with models, or a .gguf file", true, ".gguf",
                     [this](const std::filesystem::path& path) { app_.add_to_library(path); });
}

void ModelsView::loaded(int engine, float width) {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(engine);
    if (s.status == EngineStatus::empty) return;
    ImGui::PushID(engine);
    ui::begin_card(t, "loaded", {width, 0});
    const ImU32 color = s.status == EngineStatus::ready    ? t.colors.good
                        : s.status == EngineStatus::failed ? t.colors.bad
                                                           : t.colors.accent;
    ui::badge(t, color, s.status == EngineStatus::ready ? "Loaded" : s.status == EngineStatus::failed ? "Failed" : "Loading");
    ImGui::SameLine();
    ui::heading(t, s.name, 1.1f);
    if (s.status == EngineStatus::loading) {
        ui::meter(t, float(s.progress), t.colors.accent, {ImGui::GetContentRegionAvail().x - t.px(120), t.px(6)});
        ui::text(t, t.colors.dim, s.message);
        ImGui::SameLine(ui::right_edge() - t.px(100));
        if (ui::button(t, icon::close, "Cancel load", {t.px(100), 0})) app_.engines[engine].cancel_load();
    } else if (s.status == EngineStatus::failed) {
        ui::wrapped(t, t.colors.bad, s.message);
        if (ui::button(t, icon::again, "Try again")) app_.load_model(s.model, engine);
    } else {
        ui::wrapped(t, t.colors.dim,
                    fmt::format("On {}{}, context of {} tokens, loaded in {}", s.device, s.cpu ? " (a CPU: no GPU is used)" : "",
                                with_commas(s.context), human_duration(s.load_seconds)));
        const MemoryNeed& m = s.memory;
        ui::wrapped(t, t.colors.dim,
                    fmt::format("weights {}   cache {}   workspace {}   other {}   together {}", human_bytes(double(m.weights)),
                                human_bytes(double(m.cache)), human_bytes(double(m.workspace)), human_bytes(double(m.rest)),
                                human_bytes(double(m.total()))));
        ui::at_right(t.px(100));
        if (ui::button(t, icon::eject, "Unload", {t.px(100), 0})) app_.engines[engine].unload();
    }
    ui::end_card();
    ImGui::PopID();
}

void ModelsView::row(const ModelEntry& model, float width) {
    Theme& t = app_.theme;
    ImGui::PushID(model.path.c_str());
    ui::begin_card(t, "model", {width, 0});
    const float room = ImGui::GetContentRegionAvail().x, right = t.px(236);
    const bool beside = room > t.px(600);  // the buttons stand beside the text, or below it
    const float text_width = beside ? room - right : room;
    ImGui::BeginGroup();
    ImGui::PushFont(t.fonts.bold, 0);
    ui::text(t, t.colors.text, ui::shortened(t.fonts.bold, t.size * t.scale, model.name, text_width - t.px(150)));
    ImGui::PopFont();
    if (!model.error.empty()) {
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + text_width);
        ui::small(t, t.colors.bad, model.error);
        ImGui::PopTextWrapPos();
    } else {
        ImGui::SameLine(0, t.px(10));
        ui::badge(t, t.colors.accent, fmt::format("{} · {:.3g} bits", model.method, model.bits));
        const auto used = app_.settings.last_used.find(model.path.string());
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + text_width - t.px(12));
        ui::small(
            t, t.colors.dim,
            fmt::format("{}  ·  {} parameters  ·  {} on disk  ·  {}", model.architecture, human_count(double(model.parameters)),
                        human_bytes(double(model.bytes)), ago(used == app_.settings.last_used.end() ? 0 : used->second)));
        ImGui::PopTextWrapPos();
        ui::small(t, t.colors.faint, ui::shortened(t.fonts.regular, t.size * t.scale * 0.86f, model.path.string(), text_width));
    }
    ImGui::EndGroup();
    if (model.error.empty()) {
        if (beside) ImGui::SameLine(ui::right_edge() - right);
        ImGui::BeginGroup();
        const auto estimate = app_.library.estimate(model.path, app_.settings.context, app_.settings.device);
        if (!estimate) {
            ui::small(t, t.colors.faint, "estimating…");
        } else if (!estimate->error.empty()) {
            ui::small(t, t.colors.bad, "no estimate");
            ui::hint(t, estimate->error);
        } else {
            const MemoryNeed& n = estimate->need;
            const Fit f = fit(n.total(), estimate->free);
            const ImU32 color = f == Fit::no ? t.colors.bad : f == Fit::tight ? t.colors.warn : t.colors.good;
            ui::small(t, color,
                      fmt::format("needs {} of {} free", human_bytes(double(n.total())), human_bytes(double(estimate->free))));
            ui::hint(t, fmt::format("Context of {}\nweights {}\ncache {}\nworkspace {}\nother {}", with_commas(estimate->context),
                                    human_bytes(double(n.weights)), human_bytes(double(n.cache)),
                                    human_bytes(double(n.workspace)), human_bytes(double(n.rest))));
            ui::meter(t, float(double(n.total()) / double(std::max<uint64_t>(1, estimate->free))), color,
                      {right - t.px(20), t.px(5)});
        }
        const bool is_loaded = app_.state(0).model == model.path && app_.state(0).status != EngineStatus::failed &&
                               app_.state(0).status != EngineStatus::empty;
        ImGui::BeginDisabled(is_loaded);
        if (ui::primary_button(t, icon::play, is_loaded ? "Loaded" : "Load", {t.px(100), 0}))
            app_.load_model(model.path), app_.view = View::chat;
        ImGui::EndDisabled();
        ImGui::SameLine();
        if (ui::button(t, icon::clone, "Beside", {t.px(108), 0})) {
            app_.settings.compare = true;
            app_.load_model(model.path, 1);
        }
        ui::hint(t, "Load as the second model, to compare answers side by side");
        ImGui::EndGroup();
    }
    ui::end_card();
    ImGui::PopID();
}

void ModelsView::draw(ImVec2) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(28), t.px(24)));
    ImGui::BeginChild("models", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float width = std::min(ImGui::GetContentRegionAvail().x, t.px(1080));
    ui::heading(t, "Models", 1.6f);
    ImGui::SameLine(t.px(28) + width - t.px(178));
    if (ui::primary_button(t, icon::plus, "Add a folder", {t.px(136), t.px(34)})) add_folder();
    ImGui::SameLine();
    if (ui::icon_button(t, icon::again, "Scan again", false, 34)) app_.library.scan();
    loaded(0, width);
    if (app_.settings.compare) loaded(1, width);

    ui::begin_card(t, "options", {width, 0});
    auto begin_field = [&](const char* title, float field_width, bool first) {
        field_width = std::min(field_width, ImGui::GetContentRegionAvail().x);
        first ? ImGui::BeginGroup() : ui::group_beside(field_width, t.px(20));
        ui::small(t, t.colors.dim, title);
        ImGui::SetNextItemWidth(field_width);
    };
    const std::vector<DeviceEntry> devices = app_.library.devices();
    const std::string device =
        app_.settings.device.empty() ? (devices.empty() ? "the best one" : devices.front().name) : app_.settings.device;
    begin_field("Device", t.px(294), true);
    if (ImGui::BeginCombo("##Device", device.c_str())) {
        for (const DeviceEntry& d : devices) {
            if (ImGui::Selectable(d.name.c_str(), d.name == device)) app_.settings.device = d.name, app_.save_settings();
            ui::hint(t, fmt::format("{}, {}", d.kind, human_bytes(double(d.memory))));
        }
        ImGui::EndCombo();
    }
    ImGui::EndGroup();
    begin_field("Context, tokens", t.px(250), false);
    const int64_t contexts[] = {0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072};
    auto name = [](int64_t context) { return context == 0 ? std::string("Model's own, up to 4,096") : with_commas(context); };
    if (ImGui::BeginCombo("##Context", name(app_.settings.context).c_str())) {
        for (int64_t context : contexts)
            if (ImGui::Selectable(name(context).c_str(), context == app_.settings.context))
                app_.settings.context = context, app_.save_settings();
        ImGui::EndCombo();
    }
    ImGui::EndGroup();
    begin_field("Cache", t.px(150), false);
    if (ImGui::BeginCombo("##Cache", app_.settings.cache.empty() ? "Device's own" : app_.settings.cache.c_str())) {
        for (const char* type : {"", "f32", "f16", "bf16", "i8"})
            if (ImGui::Selectable(*type ? type : "Device's own", app_.settings.cache == type))
                app_.settings.cache = type, app_.save_settings();
        ImGui::EndCombo();
    }
    ImGui::EndGroup();
    if (const std::string error = app_.library.device_error(); !error.empty()) ui::wrapped(t, t.colors.bad, error);
    ui::end_card();

    const std::vector<ModelEntry> models = app_.library.models();
    if (models.size() > 6) ui::input("##Filter models", "Filter by name", filter_, 0, t.px(294));
    if (app_.library.scanning()) {
        ImGui::AlignTextToFramePadding();
        ui::text(t, t.colors.dim, "Looking for models…");
        ImGui::SameLine();
        if (ui::button(t, icon::close, "Stop looking")) app_.library.cancel_scan();
    } else if (models.empty()) {
        const bool none = app_.settings.folders.empty();
        if (ui::empty_state(
                t, icon::models, none ? "No folder yet" : "No models in these folders",
                "Add a folder that holds models (Hugging Face directories, packed directories of vkqat, .gguf files), or "
                "drop it on this window.",
                icon::folder, "Choose a folder"))
            add_folder();
    }
    for (const ModelEntry& model : models)
        if (find_text(model.name, filter_) != std::string::npos) row(model, width);

    if (!app_.settings.folders.empty()) {
        ImGui::Dummy({0, t.px(10)});
        ui::heading(t, "Folders", 1.1f);
        for (size_t i = 0; i < app_.settings.folders.size(); i++) {
            ImGui::PushID(int(i));
            if (ui::icon_button(t, icon::close, "Remove from the library", false, 26)) {
                const std::string folder = app_.settings.folders[i];
                app_.settings.folders.erase(app_.settings.folders.begin() + ptrdiff_t(i));
                app_.save_settings();
                app_.library.set_folders({app_.settings.folders.begin(), app_.settings.folders.end()});
                app_.say("Removed from the library; the files stay", false, [this, folder] { app_.add_to_library(folder); });
                ImGui::PopID();
                break;
            }
            ImGui::SameLine();
            ImGui::AlignTextToFramePadding();
            ui::text(t, t.colors.dim, app_.settings.folders[i]);
            ImGui::PopID();
        }
    }
    ImGui::EndChild();
}

}  // namespace vkqat
