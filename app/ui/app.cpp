#include "app/ui/app.h"

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>

#include <algorithm>
#include <ctime>

#include "app/core/png.h"
#include "app/ui/chat_view.h"
#include "app/ui/file_dialog.h"
#include "app/ui/models_view.h"
#include "app/ui/profile_view.h"
#include "app/ui/quality_view.h"
#include "app/ui/settings_view.h"
#include "app/ui/training_view.h"
#include "app/ui/widgets.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

constexpr double toast_seconds = 6;

std::filesystem::path settings_file() { return config_folder() / "settings.json"; }
std::filesystem::path presets_file() { return config_folder() / "presets.json"; }

}  // namespace

const char* view_name(View view) {
    constexpr const char* names[] = {"Chat", "Models", "Profile", "Quality", "Training", "Settings"};
    return names[size_t(view)];
}

App::App(const AppOptions& options)
    : store(data_folder() / "conversations"),
      library(options.wake),
      engines{Engine(options.wake), Engine(options.wake)},
      chats(store, {[this](int engine, AnswerRequest request) { return engines[engine].answer(std::move(request)); },
                    [this](int engine) { return states_[engine].name; }}) {
    auto read = [this](const std::filesystem::path& file, auto&& use) {
        std::error_code error;
        if (!std::filesystem::exists(file, error)) return;
        try {
            use(read_text_file(file, size_t(16) << 20), file.string());
        } catch (const std::exception& e) {
            std::filesystem::rename(file, file.string() + ".damaged", error);
            say(std::string(e.what()) + " (set aside; the defaults are used)", true);
        }
    };
    read(settings_file(), [this](auto text, auto where) { settings = settings_from_json(text, where); });
    read(presets_file(), [this](auto text, auto where) { presets = presets_from_json(text, where); });
    for (const std::string& damaged : chats.load()) say(damaged, true);
    chat_ = std::make_unique<ChatView>(*this);
    models_ = std::make_unique<ModelsView>(*this);
    profile_ = std::make_unique<ProfileView>(*this, options.wake);
    quality_ = std::make_unique<QualityView>(*this, options.wake);
    training_ = std::make_unique<TrainingView>(*this);
    settings_view_ = std::make_unique<SettingsView>(*this);
    dialog_ = std::make_unique<FileDialog>();
    library.set_folders({settings.folders.begin(), settings.folders.end()});
    if (!options.model.empty()) {
        const auto path = std::filesystem::absolute(options.model).lexically_normal();
        load_model(path.has_filename() ? path : path.parent_path());
    }
    for (int i = 0; i < view_count; i++)
        if (find_text(view_name(View(i)), options.view) == 0 && !options.view.empty()) view = View(i);
}

App::~App() = default;

double App::time() const { return glfwGetTime(); }

void App::say(std::string text, bool bad, std::function<void()> undo) {
    std::erase_if(toasts_, [&](const Toast& toast) { return toast.text == text; });
    toasts_.push_back({std::move(text), std::move(undo), time() + toast_seconds * (bad ? 2 : 1), bad});
    if (toasts_.size() > 4) toasts_.erase(toasts_.begin());
}

void App::for_this_time(const std::string& theme_name, double scale) {
    const Look saved{settings.theme, settings.scale};
    if (!theme_name.empty()) settings.theme = theme_name;
    if (scale > 0) settings.scale = scale;
    given_ = {Look{settings.theme, settings.scale}, saved};
}

void App::save_settings() {
    Settings kept = settings;
    if (given_ && kept.theme == given_->first.theme) kept.theme = given_->second.theme;
    if (given_ && kept.scale == given_->first.scale) kept.scale = given_->second.scale;
    store.write(settings_file(), to_json(kept));
}

void App::save_presets() { store.write(presets_file(), presets_to_json(presets)); }

void App::load_model(const std::filesystem::path& model, int engine) {
    LoadRequest request{model, settings.device, settings.context, {}};
    for (DType type : {DType::f32, DType::f16, DType::bf16, DType::i8})
        if (settings.cache == name(type)) request.cache = type;
    if (engine == 0) settings.model = model.string();
    if (engine == 1) settings.second_model = model.string();
    settings.last_used[model.string()] = std::time(nullptr);
    save_settings();
    engines[engine].load(std::move(request));
    states_[engine] = engines[engine].state();
}

void App::add_to_library(const std::filesystem::path& path) {
    const std::string text = std::filesystem::absolute(path).lexically_normal().string();
    if (std::find(settings.folders.begin(), settings.folders.end(), text) == settings.folders.end())
        settings.folders.push_back(text);
    save_settings();
    library.set_folders({settings.folders.begin(), settings.folders.end()});
}

void App::open_dialog(const char* title, bool folders, std::string extension,
                      std::function<void(const std::filesystem::path&)> done) {
    dialog_->open(title, folders, std::move(extension), std::move(done));
}

std::vector<int> App::answering() const {
    if (settings.compare && ready(0) && ready(1)) return {0, 1};
    return {0};
}

void App::set_theme() {
    const bool dark = settings.theme == "system" ? system_dark : settings.theme == "dark";
    theme.apply(dark, settings.scale > 0 ? float(settings.scale) : display_scale, float(settings.font_size));
}

void App::dropped(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
        std::error_code error;
        if (std::filesystem::path(path).extension() == ".json" && std::filesystem::is_regular_file(path, error)) {
            try {
                chat_->open(chats.import(path).id);
                view = View::chat;
            } catch (const std::exception& e) {
                say(e.what(), true);
            }
        } else {
            add_to_library(path);
            view = View::models;
        }
    }
}

void App::finish() {
    chats.stop_all();
    chats.poll(time());
    if (Conversation* c = chat_->current()) chats.changed(*c);
    save_settings();
    store.wait();
}

void App::captured(uint32_t width, uint32_t height, std::vector<uint8_t> rgb) {
    const std::filesystem::path file = std::exchange(capture, std::nullopt)->file;
    store.run_later([file, width, height, rgb = std::move(rgb)] { write_png(file, width, height, rgb); });
    say("Saved " + file.string());
}

bool App::animating() const { return palette_opened_ || capture || (view == View::chat && chat_->settling()); }

double App::wake_after() const {
    double wait = view == View::training && training_->watching() ? (training_->reading() ? 0.01 : 1) : -1;
    for (const Toast& toast : toasts_) wait = wait < 0 ? toast.until - time() : std::min(wait, toast.until - time());
    return wait < 0 && toasts_.empty() ? -1 : std::max(0.01, wait);
}

void App::frame(float width, float height) {
    for (int i = 0; i < 2; i++) {
        EngineState next = engines[i].state();
        if (next.status == EngineStatus::failed && states_[i].status != EngineStatus::failed) say(next.message, true);
        states_[i] = std::move(next);
    }
    chats.poll(time());
    if (const std::string error = store.take_error(); !error.empty()) say(error, true);

    ImGui::SetNextWindowPos({0, 0});
    ImGui::SetNextWindowSize({width, height});
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(0, 0));
    ImGui::PushStyleVar(ImGuiStyleVar_WindowRounding, 0);
    ImGui::Begin("vkqat", nullptr,
                 ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoSavedSettings |
                     ImGuiWindowFlags_NoBringToFrontOnFocus);
    ImGui::PopStyleVar(3);
    shortcuts();
    navigation(height);
    ImGui::SameLine(0, 0);
    const ImVec2 size = ImGui::GetContentRegionAvail();
    switch (view) {
        case View::chat: chat_->draw(size); break;
        case View::models: models_->draw(size); break;
        case View::settings: settings_view_->draw(size); break;
        case View::profile: profile_->draw(size); break;
        case View::quality: quality_->draw(size); break;
        case View::training: training_->draw(size); break;
    }
    dialog_->draw(theme);
    ImGui::End();
    command_palette(width, height);
    shortcut_sheet();
    toasts(width, height);
}

void App::navigation(float height) {
    const Theme& t = theme;
    const float width = t.px(72);
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(8), t.px(12)));
    ImGui::BeginChild("navigation", {width, height}, ImGuiChildFlags_AlwaysUseWindowPadding, ImGuiWindowFlags_NoScrollbar);
    ImGui::PopStyleVar();
    // A low window has room for the pictures only.
    const float item = std::min(t.px(56), (height - t.px(24)) / float(view_count) - t.px(4));
    const bool labels = item >= t.px(50);
    const char* icons[] = {icon::chat, icon::models, icon::profile, icon::quality, icon::training, icon::settings};
    for (int i = 0; i < view_count; i++) {
        if (View(i) == View::settings) ImGui::SetCursorPosY(std::max(ImGui::GetCursorPosY(), height - item - t.px(14)));
        const ImVec2 at = ImGui::GetCursorScreenPos(), size{width - t.px(16), item};
        if (ImGui::InvisibleButton(view_name(View(i)), size, ImGuiButtonFlags_EnableNav)) view = View(i);
        const bool on = view == View(i), hovered = ImGui::IsItemHovered() || ImGui::IsItemFocused();
        ImDrawList* draw = ImGui::GetWindowDrawList();
        if (on || hovered)
            draw->AddRectFilled(at, {at.x + size.x, at.y + size.y}, on ? t.colors.hover : with_alpha(t.colors.hover, 0.6f),
                                t.px(10));
        const ImU32 color = on ? t.colors.accent : t.colors.dim;
        const float big = t.size * t.scale * 1.25f, small = t.size * t.scale * 0.73f;
        const float iw = t.fonts.regular->CalcTextSizeA(big, FLT_MAX, 0, icons[i]).x,
                    tw = t.fonts.regular->CalcTextSizeA(small, FLT_MAX, 0, view_name(View(i))).x;
        draw->AddText(t.fonts.regular, big, {at.x + (size.x - iw) / 2, labels ? at.y + t.px(9) : at.y + (item - big) / 2}, color,
                      icons[i]);
        if (!labels) ui::hint(t, view_name(View(i)));
        if (labels)
            draw->AddText(t.fonts.regular, small, {at.x + (size.x - tw) / 2, at.y + size.y - small - t.px(8)},
                          on ? t.colors.text : t.colors.dim, view_name(View(i)));
        ImGui::Dummy({0, t.px(4)});
    }
    ImGui::EndChild();
    ImGui::PopStyleColor();
}

void App::toasts(float width, float height) {
    std::erase_if(toasts_, [&](const Toast& toast) { return toast.until <= time(); });
    float y = height - theme.px(20);
    for (size_t i = toasts_.size(); i-- > 0;) {
        Toast& toast = toasts_[i];
        ui::note(toast.bad ? "error" : "toast", toast.text);
        ImGui::SetNextWindowPos({width - theme.px(20), y}, ImGuiCond_Always, {1, 1});
        ImGui::SetNextWindowSizeConstraints({0, 0}, {theme.px(460), height});
        ImGui::PushStyleColor(ImGuiCol_WindowBg, theme.colors.dark ? theme.colors.raised : theme.colors.background);
        ImGui::PushStyleVar(ImGuiStyleVar_WindowRounding, theme.px(10));
        ImGui::PushStyleVar(ImGuiStyleVar_WindowBorderSize, theme.px(1));
        ImGui::Begin(fmt::format("##toast{}", i).c_str(), nullptr,
                     ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_AlwaysAutoResize | ImGuiWindowFlags_NoFocusOnAppearing |
                         ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoNav);
        ImGui::PopStyleVar(2);
        ImGui::PopStyleColor();
        ImGui::AlignTextToFramePadding();
        ui::text(theme, toast.bad ? theme.colors.bad : theme.colors.good, toast.bad ? icon::warning : icon::check);
        ImGui::SameLine();
        ImGui::PushTextWrapPos(theme.px(toast.undo ? 340 : 400));
        ui::text(theme, theme.colors.text, toast.text);
        ImGui::PopTextWrapPos();
        if (toast.undo) {
            ImGui::SameLine();
            if (ui::button(theme, icon::undo, "Undo")) {
                const auto undo = toast.undo;
                toast.until = 0;
                undo();
            }
        }
        y -= ImGui::GetWindowHeight() + theme.px(10);
        ImGui::End();
    }
}

std::vector<Command> App::commands() {
    auto go = [this](View to) { return [this, to] { view = to; }; };
    return {
        {"New chat", "Ctrl+N", ImGuiMod_Ctrl | ImGuiKey_N, [this] { chat_->new_chat(); }},
        {"Search all chats", "Ctrl+F", ImGuiMod_Ctrl | ImGuiKey_F, [this] { view = View::chat, chat_->focus_search(); }},
        {"Write a message", "Ctrl+L", ImGuiMod_Ctrl | ImGuiKey_L, [this] { view = View::chat, chat_->focus_input(); }},
        {"Stop the answer", "Esc", 0, [this] { chat_->stop(); }},
        {"Regenerate the answer", "Ctrl+R", ImGuiMod_Ctrl | ImGuiKey_R, [this] { chat_->regenerate_last(); }},
        {"Continue the answer", "Ctrl+Shift+R", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_R, [this] { chat_->continue_last(); }},
        {"Copy the last message", "Ctrl+Shift+C", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_C, [this] { chat_->copy_last(); }},
        {"Next chat", "Ctrl+PageDown", ImGuiMod_Ctrl | ImGuiKey_PageDown, [this] { chat_->next(1); }},
        {"Previous chat", "Ctrl+PageUp", ImGuiMod_Ctrl | ImGuiKey_PageUp, [this] { chat_->next(-1); }},
        {"Delete this chat", "Ctrl+Shift+D", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_D, [this] { chat_->delete_current(); }},
        {"Export this chat as Markdown", "Ctrl+E", ImGuiMod_Ctrl | ImGuiKey_E, [this] { chat_->export_current(true); }},
        {"Export this chat as JSON", "Ctrl+Shift+E", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_E,
         [this] { chat_->export_current(false); }},
        {"Import a chat", "Ctrl+I", ImGuiMod_Ctrl | ImGuiKey_I, [this] { chat_->import(); }},
        {"Side bar", "Ctrl+B", ImGuiMod_Ctrl | ImGuiKey_B, [this] { view = View::chat, chat_->toggle_sidebar(); }},
        {"Settings of this chat", "Ctrl+Shift+S", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_S,
         [this] { view = View::chat, chat_->toggle_panel(); }},
        {"Two models side by side", "Ctrl+Shift+B", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_B,
         [this] { settings.compare = !settings.compare, save_settings(); }},
        {"Add a folder with models", "Ctrl+O", ImGuiMod_Ctrl | ImGuiKey_O,
         [this] { view = View::models, models_->add_folder(); }},
        {"Unload the model", "", 0, [this] { engines[0].unload(); }},
        {"Go to Chat", "Ctrl+1", ImGuiMod_Ctrl | ImGuiKey_1, go(View::chat)},
        {"Go to Models", "Ctrl+2", ImGuiMod_Ctrl | ImGuiKey_2, go(View::models)},
        {"Go to Profile", "Ctrl+3", ImGuiMod_Ctrl | ImGuiKey_3, go(View::profile)},
        {"Go to Quality", "Ctrl+4", ImGuiMod_Ctrl | ImGuiKey_4, go(View::quality)},
        {"Go to Training", "Ctrl+5", ImGuiMod_Ctrl | ImGuiKey_5, go(View::training)},
        {"Measure the model", "", 0, [this] { view = View::profile, profile_->measure(); }},
        {"Open a trace", "", 0, [this] { view = View::profile, profile_->open_trace(); }},
        {"Open results of a sweep", "", 0, [this] { view = View::quality, quality_->open_folder(); }},
        {"Watch training runs", "", 0, [this] { view = View::training, training_->add_folder(); }},
        {"Start a training", "", 0, [this] { view = View::training, training_->start(); }},
        {"Go to Settings", "Ctrl+Comma", ImGuiMod_Ctrl | ImGuiKey_Comma, go(View::settings)},
        {"Light or dark", "Ctrl+Shift+L", ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_L,
         [this] { settings.theme = theme.colors.dark ? "light" : "dark", set_theme(), save_settings(); }},
        {"Larger text", "Ctrl+Plus", ImGuiMod_Ctrl | ImGuiKey_Equal,
         [this] { settings.font_size = std::min(24.0, settings.font_size + 1), set_theme(), save_settings(); }},
        {"Smaller text", "Ctrl+Minus", ImGuiMod_Ctrl | ImGuiKey_Minus,
         [this] { settings.font_size = std::max(11.0, settings.font_size - 1), set_theme(), save_settings(); }},
        {"Keyboard shortcuts", "F1", ImGuiKey_F1, [this] { sheet_open_ = true; }},
        {"All commands", "Ctrl+K", ImGuiMod_Ctrl | ImGuiKey_K, [this] { palette_open_ = palette_opened_ = true; }},
        {"Quit", "Ctrl+Q", ImGuiMod_Ctrl | ImGuiKey_Q, [this] { quit = true; }},
    };
}

void App::shortcuts() {
    // Not through Dear ImGui's routing of shortcuts, which misses a key that comes in the same frame as its modifier.
    if (ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopupId | ImGuiPopupFlags_AnyPopupLevel)) return;
    for (const Command& command : commands())
        if (command.chord && ImGui::IsKeyChordPressed(command.chord)) {
            command.run();
            return;
        }
    if (view == View::chat && ImGui::IsKeyPressed(ImGuiKey_Escape, false)) chat_->stop();
}

void App::command_palette(float width, float height) {
    if (palette_opened_) {
        ImGui::OpenPopup("##palette");
        palette_query_.clear();
        palette_at_ = 0;
    }
    ImGui::SetNextWindowPos({width / 2, height * 0.16f}, ImGuiCond_Always, {0.5f, 0});
    ImGui::SetNextWindowSize({std::min(width * 0.92f, theme.px(560)), 0});
    palette_open_ = ImGui::BeginPopup("##palette", ImGuiWindowFlags_NoSavedSettings);
    if (!palette_open_) {
        palette_opened_ = false;
        return;
    }
    if (palette_opened_) ImGui::SetKeyboardFocusHere();
    palette_opened_ = false;
    if (ui::input("##Command", "What is to be done?", palette_query_)) palette_at_ = 0;
    const std::vector<Command> all = commands();
    std::vector<std::pair<std::string, std::function<void()>>> list;
    std::vector<std::string> keys;
    for (const Command& command : all)
        if (find_text(command.name, palette_query_) != std::string::npos)
            list.emplace_back(command.name, command.run), keys.push_back(command.keys);
    for (const ModelEntry& model : library.models()) {
        const std::string label = "Load " + model.name;
        if (!palette_query_.empty() && model.error.empty() && find_text(label, palette_query_) != std::string::npos)
            list.emplace_back(label, [this, path = model.path] { load_model(path), view = View::chat; }), keys.push_back("model");
    }
    for (Conversation* c : chats.sorted()) {
        const std::string label = "Open “" + c->shown_title() + "”";
        if (palette_query_.size() > 1 && find_text(label, palette_query_) != std::string::npos)
            list.emplace_back(label, [this, id = c->id] { view = View::chat, chat_->open(id); }), keys.push_back("chat");
    }
    if (ImGui::IsKeyPressed(ImGuiKey_DownArrow)) palette_at_++;
    if (ImGui::IsKeyPressed(ImGuiKey_UpArrow)) palette_at_--;
    palette_at_ = std::clamp(palette_at_, 0, std::max(0, int(list.size()) - 1));
    std::function<void()> chosen;
    const float row = ImGui::GetTextLineHeightWithSpacing();
    ImGui::BeginChild("commands", {0, std::clamp(float(list.size()) * row, row, std::min(theme.px(380), height * 0.6f))});
    for (int i = 0; i < int(list.size()); i++) {
        ImGui::PushID(i);
        if (ImGui::Selectable(list[size_t(i)].first.c_str(), i == palette_at_)) chosen = list[size_t(i)].second;
        if (i == palette_at_ && (ImGui::IsKeyPressed(ImGuiKey_DownArrow) || ImGui::IsKeyPressed(ImGuiKey_UpArrow)))
            ImGui::SetScrollHereY();
        if (!keys[size_t(i)].empty()) {
            ImGui::SameLine(ui::right_edge() - theme.px(120));
            ui::small(theme, theme.colors.faint, keys[size_t(i)]);
        }
        ImGui::PopID();
    }
    if (ImGui::IsKeyPressed(ImGuiKey_Enter, false) && !list.empty()) chosen = list[size_t(palette_at_)].second;
    ImGui::EndChild();
    if (chosen) ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
    if (chosen) chosen();
}

void App::shortcut_sheet() {
    if (sheet_open_ && !ImGui::IsPopupOpen("Keyboard shortcuts")) ImGui::OpenPopup("Keyboard shortcuts");
    const ImVec2 screen = ImGui::GetMainViewport()->Size;
    ImGui::SetNextWindowPos({screen.x / 2, screen.y / 2}, ImGuiCond_Always, {0.5f, 0.5f});
    ImGui::SetNextWindowSizeConstraints({0, 0}, {screen.x * 0.95f, screen.y * 0.95f});
    if (!ImGui::BeginPopupModal("Keyboard shortcuts", &sheet_open_,
                                ImGuiWindowFlags_AlwaysAutoResize | ImGuiWindowFlags_NoSavedSettings))
        return;
    const std::vector<Command> all = commands();
    if (ImGui::BeginTable("keys", 2)) {
        for (const Command& command : all) {
            if (!*command.keys) continue;
            ImGui::TableNextColumn();
            ImGui::TextUnformatted(command.name);
            ImGui::SameLine(theme.px(230));
            ui::badge(theme, theme.colors.dim, command.keys);
            ImGui::SameLine(theme.px(340));
            ImGui::Dummy({0, 0});
        }
        ImGui::EndTable();
    }
    ui::small(theme, theme.colors.dim,
              "Enter sends, Ctrl+Enter begins a new line. Tab and the arrows move between widgets. Double click renames a chat.");
    if (ui::primary_button(theme, nullptr, "Close") || ImGui::IsKeyPressed(ImGuiKey_Escape))
        sheet_open_ = false, ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
}

}  // namespace vkqat
