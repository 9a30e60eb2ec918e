#include "app/ui/chat_view.h"

#include <algorithm>

#include "app/core/soft_wrap.h"
#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {

ChatView::ChatView(App& app) : app_(app) {}

void ChatView::new_chat() {
    app_.view = View::chat;
    // An empty conversation that is there already serves.
    Conversation* c = current();
    if (!c || !c->messages.empty()) {
        ChatSettings settings = c ? c->settings : ChatSettings{};
        c = &app_.chats.create(settings, app_.state(0).model.string());
    }
    open(c->id);
}

void ChatView::open(const std::string& id) {
    const std::string draft = without_soft_breaks(input_);
    if (Conversation* old = app_.chats.find(shown_); old && old->draft != draft) {
        old->draft = draft;
        app_.chats.changed(*old);
    }
    app_.settings.conversation = id;
    app_.save_settings();
    editing_ = -1;
    at_end_ = focus_input_ = true;
    texts_.clear();
    heights_.clear();
    selection_.clear();
    Conversation* c = app_.chats.find(id);
    input_ = c ? c->draft : "";
    shown_ = id;
}

void ChatView::stop() {
    if (Conversation* c = current()) app_.chats.stop(*c);
}

void ChatView::regenerate_last() {
    Conversation* c = current();
    if (!c || app_.chats.generating(*c) || !app_.ready(0)) return;
    const std::vector<int> path = c->path();
    if (!path.empty() && c->messages[size_t(path.back())].role == Role::assistant)
        app_.chats.regenerate(*c, path.back(), app_.answering());
    at_end_ = true;
}

void ChatView::continue_last() {
    Conversation* c = current();
    if (!c || app_.chats.generating(*c) || !app_.ready(0)) return;
    const std::vector<int> path = c->path();
    if (!path.empty() && c->messages[size_t(path.back())].role == Role::assistant) app_.chats.continue_answer(*c, path.back(), 0);
}

void ChatView::copy_last() {
    Conversation* c = current();
    if (!c || c->path().empty()) return;
    ImGui::SetClipboardText(c->messages[size_t(c->path().back())].content.c_str());
    app_.say("Copied");
}

void ChatView::delete_current() {
    Conversation* c = current();
    if (!c) return;
    const std::string title = c->shown_title();
    app_.chats.remove(c->id);
    shown_.clear();
    const std::vector<Conversation*> list = app_.chats.sorted();
    open(list.empty() ? "" : list.front()->id);
    app_.say(fmt::format("Deleted “{}”", title), false, [this] {
        if (Conversation* back = app_.chats.undo_remove()) open(back->id);
    });
}

void ChatView::next(int step) {
    const std::vector<Conversation*> list = app_.chats.sorted();
    if (list.empty()) return;
    int at = 0;
    for (size_t i = 0; i < list.size(); i++)
        if (list[i]->id == app_.settings.conversation) at = int(i) + step;
    open(list[size_t(std::clamp(at, 0, int(list.size()) - 1))]->id);
}

void ChatView::export_current(bool markdown) {
    Conversation* c = current();
    if (!c) return;
    const std::string text = markdown ? to_markdown(*c) : to_json(*c);
    std::string name = c->shown_title();
    for (char& ch : name)
        if (ch == '/' || ch == '\0') ch = '-';
    while (name.starts_with('.')) name.erase(0, 1);
    if (name.size() > 80) name = c->id;
    const char* ending = markdown ? ".md" : ".json";
    app_.open_dialog(markdown ? "Export as Markdown into…" : "Export as JSON into…", true, "",
                     [this, text, name, ending](const std::filesystem::path& folder) {
                         std::filesystem::path file = folder / (name + ending);
                         std::error_code error;
                         for (int i = 2; std::filesystem::exists(file, error); i++)
                             file = folder / fmt::format("{} {}{}", name, i, ending);
                         app_.store.write(file, text);
                         app_.say("Exported to " + file.string());
                     });
}

void ChatView::import() {
    app_.open_dialog("Import a conversation", false, ".json", [this](const std::filesystem::path& file) {
        try {
            open(app_.chats.import(file).id);
            app_.say("Imported " + file.filename().string());
        } catch (const std::exception& e) {
            app_.say(e.what(), true);
        }
    });
}

void ChatView::send() {
    const std::string written = without_soft_breaks(input_);
    const size_t begin = written.find_first_not_of(" \t\n"), end = written.find_last_not_of(" \t\n");
    if (begin == written.npos) return;
    if (!app_.ready(0)) {
        app_.say(app_.state(0).status == EngineStatus::loading ? "The model is still being loaded"
                                                               : "Load a model first: Models, or the picker at the top",
                 true);
        return;
    }
    Conversation* c = current();
    if (c && app_.chats.generating(*c)) return;
    if (!c) {
        c = &app_.chats.create({}, app_.state(0).model.string());
        app_.settings.conversation = shown_ = c->id;
        app_.save_settings();
    }
    const std::string text = written.substr(begin, end - begin + 1);
    input_.clear();
    c->model = app_.state(0).model.string();
    app_.chats.send(*c, text, app_.answering());
    at_end_ = true;
}

void ChatView::draw(ImVec2 size) {
    Theme& t = app_.theme;
    if (shown_ != app_.settings.conversation) open(app_.settings.conversation);
    const ImVec2 corner = ImGui::GetCursorPos();
    sidebar_fits_ = size.x >= t.px(760);
    if (app_.settings.sidebar && sidebar_fits_) {
        sidebar(t.px(264));
        ImGui::SameLine(0, 0);
    }
    Conversation* c = current();
    const ImVec2 left = ImGui::GetContentRegionAvail();
    panel_fits_ = left.x >= t.px(740);
    const float panel = app_.settings.chat_panel && c && panel_fits_ ? t.px(300) : 0;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::BeginChild("conversation", {left.x - panel, size.y}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    header(c);
    const float composer_height =
        t.px(58) + t.size * t.scale * 1.5f * float(std::min<ptrdiff_t>(8, 1 + std::count(input_.begin(), input_.end(), '\n')));
    const float height = ImGui::GetContentRegionAvail().y - composer_height;
    if (c && !c->messages.empty()) {
        messages(*c, height);
    } else {
        ImGui::BeginChild("welcome", {0, height});
        welcome();
        ImGui::EndChild();
    }
    composer(c, ImGui::GetContentRegionAvail().x);
    ImGui::EndChild();
    if (panel > 0) {
        ImGui::SameLine(0, 0);
        settings_panel(*c, panel);
    }
    overlay(c, corner, size);
    if (c && !selection_.empty() && !ImGui::GetIO().WantTextInput && ImGui::IsKeyChordPressed(ImGuiMod_Ctrl | ImGuiKey_C))
        ImGui::SetClipboardText(selected_text(*c).c_str());
}

void ChatView::focus_search() {
    focus_search_ = true;
    if (sidebar_fits_)
        app_.settings.sidebar = true;
    else
        over_ = Over::sidebar;
}

void ChatView::toggle_sidebar() {
    if (sidebar_fits_)
        app_.settings.sidebar = !app_.settings.sidebar, app_.save_settings();
    else
        over_ = over_ == Over::sidebar ? Over::none : Over::sidebar;
}

void ChatView::toggle_panel() {
    if (!current()) new_chat();
    if (panel_fits_)
        app_.settings.chat_panel = !app_.settings.chat_panel, app_.save_settings();
    else
        over_ = over_ == Over::settings ? Over::none : Over::settings;
}

// Side bar or settings over the conversation; a click beside them closes them.
void ChatView::overlay(Conversation* c, ImVec2 corner, ImVec2 size) {
    Theme& t = app_.theme;
    const bool side = over_ == Over::sidebar && !sidebar_fits_, panel = over_ == Over::settings && !panel_fits_ && c;
    if (!side && !panel) {
        over_ = Over::none;
        return;
    }
    ImGui::SetCursorPos(corner);
    ImGui::PushStyleColor(ImGuiCol_ChildBg, IM_COL32(0, 0, 0, t.colors.dark ? 120 : 60));
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::BeginChild("shade", size);
    ImGui::PopStyleVar();
    ImGui::PopStyleColor();
    const float width = std::min(t.px(side ? 264 : 300), size.x - t.px(40));
    ImGui::SetCursorPosX(side ? width : 0);
    if (ImGui::InvisibleButton("##Close", {size.x - width, size.y}) || ImGui::IsKeyPressed(ImGuiKey_Escape, false))
        over_ = Over::none;
    ImGui::SetCursorPos({side ? 0 : size.x - width, 0});
    // The shade is not for what lies in it.
    ImGui::GetWindowDrawList()->AddRectFilled(ImGui::GetCursorScreenPos(),
                                              {ImGui::GetCursorScreenPos().x + width, ImGui::GetCursorScreenPos().y + size.y},
                                              t.colors.surface);
    if (side)
        sidebar(width);
    else
        settings_panel(*c, width);
    ImGui::EndChild();
}

void ChatView::model_picker(int engine) {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(engine);
    ImGui::PushID(engine);
    const char* name = s.status == EngineStatus::empty ? "Choose a model" : s.name.c_str();
    const std::string label = fmt::format("{}  {}  {}##model{}", icon::models,
                                          ui::shortened(t.fonts.regular, t.size * t.scale, name, t.px(240)), icon::down, engine);
    if (s.status == EngineStatus::loading) {
        ImGui::AlignTextToFramePadding();
        ui::text(t, t.colors.dim, fmt::format("Loading {}", ui::shortened(t.fonts.regular, t.size * t.scale, s.name, t.px(200))));
        ImGui::SameLine();
        const float y = ImGui::GetCursorPosY();
        ImGui::SetCursorPosY(y + t.px(13));
        ui::meter(t, float(s.progress), t.colors.accent, {t.px(90), t.px(5)});
        ImGui::SameLine();
        ImGui::SetCursorPosY(y);
        if (ui::ghost_button(t, icon::close, "Cancel")) app_.engines[engine].cancel_load();
    } else {
        if (ui::button(t, nullptr, label.c_str(), {0, t.px(34)})) ImGui::OpenPopup("models");
        if (s.status == EngineStatus::failed) {
            ImGui::SameLine();
            ImGui::AlignTextToFramePadding();
            ui::text(t, t.colors.bad, icon::warning);
            ui::hint(t, s.message);
        }
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(10), t.px(10)));
    ImGui::SetNextWindowSizeConstraints({t.px(380), 0}, {t.px(560), t.px(480)});
    if (ImGui::BeginPopup("models")) {
        const std::vector<ModelEntry> models = app_.library.models();
        if (models.empty()) ui::wrapped(t, t.colors.dim, "The library is empty. Add a folder with models under Models.");
        for (const ModelEntry& model : models) {
            if (!model.error.empty()) continue;
            ImGui::PushID(model.path.c_str());
            const bool loaded = s.status == EngineStatus::ready && s.model == model.path;
            if (ImGui::Selectable((model.name + "##pick").c_str(), loaded)) app_.load_model(model.path, engine);
            ImGui::SameLine(ui::right_edge() - t.px(150));
            ui::small(t, t.colors.dim,
                      fmt::format("{} {:.3g} bits · {}", model.method, model.bits, human_bytes(double(model.bytes))));
            ImGui::PopID();
        }
        ImGui::Separator();
        if (ImGui::MenuItem("Manage models…")) app_.view = View::models;
        if (s.status == EngineStatus::ready && ImGui::MenuItem("Unload")) app_.engines[engine].unload();
        ImGui::EndPopup();
    }
    ImGui::PopStyleVar();
    ImGui::PopID();
}

void ChatView::header(Conversation* c) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(12), t.px(9)));
    ImGui::BeginChild("header", {0, t.px(52)}, ImGuiChildFlags_AlwaysUseWindowPadding, ImGuiWindowFlags_NoScrollbar);
    ImGui::PopStyleVar();
    if (ui::icon_button(t, icon::panel, "Side bar", sidebar_fits_ && app_.settings.sidebar, 34)) toggle_sidebar();
    ImGui::SameLine();
    model_picker(0);
    ImGui::SameLine();
    if (app_.settings.compare) {
        model_picker(1);
        ImGui::SameLine();
    }
    // On the right: how full the context is, and what can be switched on.
    const EngineState& s = app_.state(0);
    const bool meter =
        s.status == EngineStatus::ready && c && ImGui::GetCursorPosX() + t.px(2 * 42 + 148) < ImGui::GetWindowWidth();
    const float right = t.px(2 * 42) + (meter ? t.px(140) : 0);
    ImGui::SetCursorPosX(std::max(ImGui::GetCursorPosX(), ImGui::GetWindowWidth() - right - t.px(8)));
    if (meter) {
        int64_t used = 0;
        for (int at : c->path()) {
            const AnswerStats& stats = c->messages[size_t(at)].stats;
            if (stats.prompt_tokens > 0) used = std::min(s.context, stats.prompt_tokens + stats.tokens);
        }
        const float share = s.context ? float(used) / float(s.context) : 0, y = ImGui::GetCursorPosY();
        ImGui::SetCursorPosY(y + t.px(8));
        ui::small(t, t.colors.dim, human_count(double(used)) + " / " + human_count(double(s.context)));
        ui::hint(t, fmt::format("Context: {} of {} tokens", with_commas(used), with_commas(s.context)));
        ui::note("context", fmt::format("{}/{}", used, s.context));
        ImGui::SameLine();
        ImGui::SetCursorPosY(y + t.px(15));
        ui::meter(t, share, share > 0.9f ? t.colors.bad : share > 0.8f ? t.colors.warn : t.colors.accent, {t.px(44), t.px(5)});
        ImGui::SameLine();
        ImGui::SetCursorPosY(y);
        ImGui::SetCursorPosX(ImGui::GetWindowWidth() - t.px(2 * 42) - t.px(4));
    }
    if (ui::icon_button(t, icon::clone, "Two models side by side", app_.settings.compare, 34))
        app_.settings.compare = !app_.settings.compare, app_.save_settings();
    ImGui::SameLine();
    if (ui::icon_button(t, icon::sliders, "Settings of this chat", panel_fits_ && app_.settings.chat_panel, 34)) toggle_panel();
    ImGui::EndChild();
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::GetWindowDrawList()->AddLine({at.x, at.y - t.px(8)}, {at.x + ImGui::GetContentRegionAvail().x, at.y - t.px(8)},
                                        t.colors.border, t.px(1));
}

void ChatView::composer(Conversation* c, float width) {
    Theme& t = app_.theme;
    const float inner = std::min(width - t.px(48), t.px(chat_column_width));
    const ImVec2 start = ImGui::GetCursorScreenPos();
    const float height = ImGui::GetContentRegionAvail().y - t.px(16);
    const ImVec2 at{start.x + (width - inner) / 2, start.y};
    ImDrawList* draw = ImGui::GetWindowDrawList();
    draw->AddRectFilled(at, {at.x + inner, at.y + height}, t.colors.surface, t.px(14));
    const bool generating = c && app_.chats.generating(*c);
    ImGui::SetCursorScreenPos({at.x + t.px(6), at.y + (height - (height - t.px(10))) / 2});
    ImGui::PushStyleColor(ImGuiCol_FrameBg, 0);
    ImGui::PushStyleColor(ImGuiCol_NavCursor, 0);
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(t.px(10), t.px(8)));
    ImGui::PushStyleVar(ImGuiStyleVar_FrameBorderSize, 0);
    if (focus_input_) ImGui::SetKeyboardFocusHere();
    focus_input_ = false;
    const bool enter = ui::input_multiline("##Message", input_, {inner - t.px(60), height - t.px(10)},
                                           ImGuiInputTextFlags_CtrlEnterForNewLine | ImGuiInputTextFlags_EnterReturnsTrue);
    const bool active = ImGui::IsItemActive();
    if (ImGui::IsItemDeactivatedAfterEdit() && c && c->draft != without_soft_breaks(input_))
        c->draft = without_soft_breaks(input_), app_.chats.changed(*c);
    ImGui::PopStyleVar(2);
    ImGui::PopStyleColor(2);
    draw->AddRect(at, {at.x + inner, at.y + height}, active ? with_alpha(t.colors.accent, 0.7f) : t.colors.border, t.px(14), 0,
                  t.px(1));
    if (input_.empty())
        draw->AddText(t.fonts.regular, t.size * t.scale, {at.x + t.px(17), at.y + t.px(13)}, t.colors.faint,
                      app_.state(0).made_for_chat ? "Write a message" : "Write the beginning of a text");
    ImGui::SetCursorScreenPos({at.x + inner - t.px(46), at.y + height - t.px(44)});
    ImGui::PushStyleVar(ImGuiStyleVar_FrameRounding, t.px(18));
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(0, 0));
    if (generating) {
        if (ui::button(t, icon::stop, "##Stop", {t.px(36), t.px(36)})) stop();
        ui::hint(t, "Stop (Esc)");
    } else {
        if (ui::primary_button(t, icon::send, "##Send", {t.px(36), t.px(36)})) send(), focus_input_ = true;
        ui::hint(t, "Send (Enter)");
    }
    ImGui::PopStyleVar(2);
    if (enter && !generating) {
        send();
        focus_input_ = true;
    } else if (enter) {
        focus_input_ = true;
    }
}

}  // namespace vkqat
