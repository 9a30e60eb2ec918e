// The messages of a conversation, and what stands in their place where there are none.
#include <algorithm>
#include <cmath>

#include "app/core/bidi.h"
#include "app/core/soft_wrap.h"
#include "app/ui/chat_view.h"
#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

std::string stats_text(const AnswerStats& s) {
    std::string text;
    auto add = [&](std::string part) { text += (text.empty() ? "" : "  ·  ") + part; };
    if (s.tokens_per_second > 0) add(human_rate(s.tokens_per_second) + " tokens/s");
    if (s.tokens > 0) add(with_commas(s.tokens) + (s.tokens == 1 ? " token" : " tokens"));
    if (s.first_token_seconds > 0) add("first after " + human_duration(s.first_token_seconds));
    if (s.cached_tokens > 0)
        add(fmt::format("{} of {} prompt tokens reused", with_commas(s.cached_tokens), with_commas(s.prompt_tokens)));
    if (s.device_bytes > 0) add(human_bytes(double(s.device_bytes)));
    if (s.end == "stopped") add("stopped");
    if (s.end == "length") add("length limit reached");
    if (s.end == "context") add("context full");
    return text;
}

// The height of a message that was never on the screen, from its length: its text is not read before it comes near.
float guessed_height(const Theme& t, const Message& m, float width) {
    const float line = t.size * t.scale * 1.5f, per_line = std::max(8.0f, width / (t.size * t.scale * 0.5f));
    return line * std::ceil(float(m.content.size()) / per_line + 1) + t.px(40);
}

bool failed(const AnswerStats& s) { return !s.end.empty() && s.end != "stopped" && s.end != "length" && s.end != "context"; }
}  // namespace

void ChatView::messages(Conversation& c, float height) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(24), t.px(8)));
    ImGui::BeginChild("messages", {0, height}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float room = ImGui::GetContentRegionAvail().x,
                width = std::min(room, t.px(app_.settings.compare ? 1200 : chat_column_width));
    const float left = ImGui::GetCursorPosX() + (room - width) / 2;
    const std::vector<int> path = c.path();
    const float top = ImGui::GetScrollY(), bottom = top + height;
    if (ImGui::IsMouseClicked(0) && ImGui::IsWindowHovered() && !ImGui::GetIO().KeyShift) selection_.clear();
    if (!ImGui::IsMouseDown(0)) selection_.dragging = false;
    float shift = 0;
    for (size_t i = 0; i < path.size(); i++) {
        const int at = path[i];
        ImGui::SetCursorPosX(left);
        const float y = ImGui::GetCursorPosY();
        auto& [known_width, known_height] = heights_[at];
        const bool last = i + 1 == path.size(), known = known_width == width;
        if (!known) known_height = guessed_height(t, c.messages[size_t(at)], width);
        // What is far away stands as an empty place.
        if (editing_ != at && !last && (y + known_height < top - height || y > bottom + height)) {
            ImGui::Dummy({width, known_height});
        } else {
            const float guessed = known_height;
            ImGui::PushID(at);
            ImGui::BeginGroup();
            message(c, at, 2 * int(i), width, last);
            ImGui::EndGroup();
            ImGui::PopID();
            known_width = width;
            known_height = ImGui::GetItemRectSize().y;
            // Above what is seen its true height comes with the next frame, together with the scrolling that hides it.
            if (!known && !last && y + guessed < top && y + known_height < top) {
                shift += known_height - guessed;
                ImGui::SetCursorPosY(y + guessed + ImGui::GetStyle().ItemSpacing.y);
            }
        }
        ImGui::Dummy({0, t.px(10)});
    }
    // The end stays in sight while an answer grows, unless somebody scrolls up.
    const ImVec2 scroll{ImGui::GetScrollY(), ImGui::GetScrollMaxY()};
    if (scroll.x < scroll_seen_.x && scroll.y >= scroll_seen_.y) at_end_ = false;
    scroll_seen_ = scroll;
    if (ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - t.px(4)) at_end_ = true;
    const bool below = ImGui::GetScrollY() < ImGui::GetScrollMaxY() - 1;
    if (at_end_ && (app_.chats.generating(c) || below)) ImGui::SetScrollY(ImGui::GetScrollMaxY());
    settling_ = at_end_ && below && !app_.chats.generating(c);
    for (const auto& [place, text] : texts_) settling_ |= text.parsing();
    if (shift != 0 && !at_end_) {
        ImGui::SetScrollY(ImGui::GetScrollY() + shift);
        settling_ = true;
    }
    // A selection that is drawn out of the window takes the text along.
    if (selection_.dragging) {
        const float y = ImGui::GetIO().MousePos.y - ImGui::GetWindowPos().y, edge = t.px(16);
        const float beyond = y < edge ? y - edge : y > height - edge ? y - height + edge : 0;
        if (beyond != 0) {
            ImGui::SetScrollY(std::clamp(ImGui::GetScrollY() + beyond * 0.3f, 0.0f, ImGui::GetScrollMaxY()));
            at_end_ = false;
            settling_ = true;
        }
    }
    ImGui::EndChild();
}

std::vector<int> ChatView::shown_at(const Conversation& c, int at) const {
    if (!app_.settings.compare || c.messages[size_t(at)].role == Role::user) return {at};
    // The newest answers of the two models beside each other.
    std::vector<int> pair;
    const std::vector<int> siblings = c.siblings(at);
    for (auto sibling = siblings.rbegin(); sibling != siblings.rend() && pair.size() < 2; ++sibling) {
        const std::string& model = c.messages[size_t(*sibling)].model;
        if (pair.empty() || c.messages[size_t(pair.front())].model != model || model.empty()) pair.insert(pair.begin(), *sibling);
    }
    return pair.size() == 2 ? pair : std::vector<int>{at};
}

std::string ChatView::selected_text(Conversation& c) {
    std::string text;
    const std::vector<int> path = c.path();
    for (size_t i = 0; i < path.size(); i++) {
        const std::vector<int> shown = shown_at(c, path[i]);
        for (size_t k = 0; k < shown.size(); k++) {
            RichText& rich = texts_[{c.id, shown[k]}];
            rich.set_text(c.messages[size_t(shown[k])].content, true);
            TextPlace from, to;
            if (!selection_.part(int(2 * i + k), rich.end(), from, to)) continue;
            text += (text.empty() ? "" : "\n\n") + rich.between(from, to);
        }
    }
    return text;
}

void ChatView::answer_body(Conversation& c, int at, int item, float width, bool beside) {
    Theme& t = app_.theme;
    Message& m = c.messages[size_t(at)];
    const Chats::Generation* g = app_.chats.generation(c, at);
    if (m.content.empty() && g) {
        const bool waiting = g->seen.prompt_progress <= 0;
        ui::text(t, t.colors.dim,
                 waiting ? "Waiting…" : fmt::format("Reading the prompt, {:.0f} %", 100 * g->seen.prompt_progress));
    } else if (m.content.empty() && !failed(m.stats)) {
        ui::text(t, t.colors.faint, "(empty)");
    } else if (!m.content.empty()) {
        RichText& text = texts_[{c.id, at}];
        text.set_text(m.content);
        text.set_highlight(search_);
        text.draw(t, width, selection_, item, beside);
        ui::note("assistant", m.content);
    }
    if (failed(m.stats)) {
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + width);
        ui::text(t, t.colors.bad, std::string(icon::warning) + "  " + m.stats.end);
        ImGui::PopTextWrapPos();
    }
}

// Goes from one of several answers, or versions of a message, to the next; nothing where there is one. gap: behind it, -1: the
// usual.
void ChatView::sibling_switch(Conversation& c, int at, const char* what, float gap) {
    const std::vector<int> siblings = c.siblings(at);
    if (siblings.size() < 2) return;
    Theme& t = app_.theme;
    const auto here = std::find(siblings.begin(), siblings.end(), at) - siblings.begin();
    const float y = ImGui::GetCursorPosY();
    ImGui::BeginDisabled(here == 0);
    if (ui::icon_button(t, icon::left, fmt::format("Earlier {}", what).c_str(), false, 26))
        c.choose(siblings[size_t(here) - 1]), app_.chats.changed(c);
    ImGui::EndDisabled();
    ImGui::SameLine(0, t.px(2));
    ImGui::SetCursorPosY(y + t.px(4));
    ui::small(t, t.colors.dim, fmt::format("{} / {}", here + 1, siblings.size()));
    ImGui::SameLine(0, t.px(2));
    ImGui::SetCursorPosY(y);
    ImGui::BeginDisabled(here + 1 == ptrdiff_t(siblings.size()));
    if (ui::icon_button(t, icon::right, fmt::format("Later {}", what).c_str(), false, 26))
        c.choose(siblings[size_t(here) + 1]), app_.chats.changed(c);
    ImGui::EndDisabled();
    ImGui::SameLine(0, gap);
    ImGui::SetCursorPosY(y);
}

void ChatView::answer_tools(Conversation& c, int at, float width, bool last) {
    Theme& t = app_.theme;
    const float left = ImGui::GetCursorPosX();
    Message& m = c.messages[size_t(at)];
    const bool busy = app_.chats.generating(c);
    sibling_switch(c, at, "answer", -1);
    if (ui::icon_button(t, icon::copy, "Copy", false, 26)) ImGui::SetClipboardText(m.content.c_str()), app_.say("Copied");
    ImGui::SameLine(0, t.px(2));
    ImGui::BeginDisabled(busy);
    if (ui::icon_button(t, icon::edit, "Edit", false, 26)) editing_ = at, editing_text_ = m.content, focus_edit_ = true;
    ImGui::BeginDisabled(!app_.ready(0));
    ImGui::SameLine(0, t.px(2));
    if (ui::icon_button(t, icon::again, "Regenerate", false, 26)) app_.chats.regenerate(c, at, app_.answering()), at_end_ = true;
    if (last) {
        ImGui::SameLine(0, t.px(2));
        if (ui::icon_button(t, icon::forward, "Continue", false, 26)) app_.chats.continue_answer(c, at, 0), at_end_ = true;
    }
    ImGui::EndDisabled();
    ImGui::EndDisabled();
    const std::string stats = stats_text(m.stats);
    if (!stats.empty()) {
        const float x = ImGui::GetItemRectMax().x - ImGui::GetWindowPos().x + t.px(10);
        if (x + ImGui::CalcTextSize(stats.c_str()).x * 0.86f <= left + width) {
            ImGui::SameLine(0, t.px(10));
            ImGui::SetCursorPosY(ImGui::GetCursorPosY() + t.px(4));
        } else {
            ImGui::SetCursorPosX(left);
        }
        ImGui::PushTextWrapPos(left + width);
        ui::small(t, t.colors.faint, stats);
        ImGui::PopTextWrapPos();
        ui::note("stats", stats);
    }
}

void ChatView::message(Conversation& c, int at, int item, float width, bool last) {
    Theme& t = app_.theme;
    Message& m = c.messages[size_t(at)];
    if (editing_ == at) {
        ui::small(t, t.colors.dim,
                  m.role == Role::user ? "Edit your message: it will be answered anew, the earlier one stays"
                                       : "Edit the answer: the earlier one stays");
        const float lines = float(std::clamp<ptrdiff_t>(
            2 + std::count(editing_text_.begin(), editing_text_.end(), '\n') + ptrdiff_t(editing_text_.size() / 90), 3, 16));
        if (focus_edit_) ImGui::SetKeyboardFocusHere();
        focus_edit_ = false;
        const bool enter = ui::input_multiline("##Edit", editing_text_, {width, t.size * t.scale * 1.35f * lines + t.px(12)},
                                               ImGuiInputTextFlags_CtrlEnterForNewLine | ImGuiInputTextFlags_EnterReturnsTrue);
        const bool save = ui::primary_button(t, nullptr, m.role == Role::user ? "Save and answer" : "Save");
        ImGui::SameLine();
        const bool cancel = ui::ghost_button(t, nullptr, "Cancel edit") || ImGui::IsKeyPressed(ImGuiKey_Escape);
        if (enter || save) {
            if (m.role == Role::user && !app_.ready(0))
                app_.say("Load a model first", true);
            else
                app_.chats.edit(c, at, without_soft_breaks(editing_text_), app_.answering());
            editing_ = -1;
            at_end_ = true;
        } else if (cancel) {
            editing_ = -1;
        }
        return;
    }
    if (m.role == Role::user) {
        // A bubble on the right.
        const float inner = std::min(width * 0.8f, width - t.px(40)), padding = t.px(14);
        RichText& text = texts_[{c.id, at}];
        text.set_text(m.content);
        text.set_highlight(search_);
        ImFont* font = t.fonts.regular;
        const float size = t.size * t.scale;
        float natural = 0;
        if (m.content.size() < 400) {
            const bool line = m.content.find('\n') == m.content.npos;
            const std::string shown = line ? in_visual_order(m.content) : m.content;
            natural = font->CalcTextSizeA(size, FLT_MAX, 0, shown.c_str()).x + t.px(4);
        }
        const bool plain = natural > 0 && m.content.find_first_of("`#*|>-") == m.content.npos;
        const float text_width = std::ceil(plain ? std::min(natural, inner - 2 * padding) : inner - 2 * padding);
        const float x = ImGui::GetCursorPosX(), y = ImGui::GetCursorPosY();
        ImGui::SetCursorPosX(x + width - text_width - 2 * padding);
        const ImVec2 corner = ImGui::GetCursorScreenPos();
        const float text_y = corner.y + t.px(9);
        const float text_height = text.height(t, text_width, ImGui::GetWindowDrawList()->GetClipRectMin().y - text_y,
                                              ImGui::GetWindowDrawList()->GetClipRectMax().y - text_y);
        ImGui::GetWindowDrawList()->AddRectFilled(
            corner, {corner.x + text_width + 2 * padding, corner.y + text_height + t.px(18)}, t.colors.raised, t.px(14));
        ImGui::SetCursorPos({x + width - text_width - padding, y + t.px(9)});
        text.draw(t, text_width, selection_, item);
        ui::note("user", m.content);
        ImGui::SetCursorPos({x + width - t.px(c.siblings(at).size() > 1 ? 150 : 62), y + text_height + t.px(22)});
        sibling_switch(c, at, "version", t.px(2));
        ImGui::BeginDisabled(app_.chats.generating(c));
        if (ui::icon_button(t, icon::edit, "Edit message", false, 26))
            editing_ = at, editing_text_ = m.content, focus_edit_ = true;
        ImGui::EndDisabled();
        ImGui::SameLine(0, t.px(2));
        if (ui::icon_button(t, icon::copy, "Copy message", false, 26))
            ImGui::SetClipboardText(m.content.c_str()), app_.say("Copied");
        return;
    }
    if (const std::vector<int> pair = shown_at(c, at); pair.size() == 2) {
        side_by_side(c, pair, item, width, last);
        return;
    }
    ImGui::PushFont(t.fonts.bold, t.size * 0.92f);
    ui::text(t, t.colors.dim, m.model.empty() ? "Assistant" : m.model);
    ImGui::PopFont();
    answer_body(c, at, item, width, false);
    if (!app_.chats.generation(c, at)) {
        answer_tools(c, at, width, last);
    } else {
        ui::small(t, t.colors.faint, stats_text(m.stats));
    }
}

void ChatView::side_by_side(Conversation& c, const std::vector<int>& answers, int item, float width, bool last) {
    Theme& t = app_.theme;
    const float gap = t.px(16), column = (width - gap) / 2;
    const float x = ImGui::GetCursorPosX();
    for (size_t i = 0; i < 2; i++) {
        const int at = answers[i];
        Message& m = c.messages[size_t(at)];
        if (i > 0) {
            ImGui::SameLine(0, 0);
            ImGui::SetCursorPosX(x + column + gap);
        }
        ImGui::PushID(at);
        ImGui::BeginGroup();
        const bool chosen = m.parent >= 0 && c.messages[size_t(m.parent)].chosen == at;
        if (ImGui::RadioButton(fmt::format("{}##choose", m.model.empty() ? "Assistant" : m.model).c_str(), chosen))
            c.choose(at), app_.chats.changed(c);
        ui::hint(t, "The conversation goes on with the chosen answer");
        answer_body(c, at, item + int(i), column, true);
        if (!app_.chats.generation(c, at)) {
            ImGui::PushTextWrapPos(x + (column + gap) * float(i) + column);
            ui::small(t, t.colors.faint, stats_text(m.stats));
            ImGui::PopTextWrapPos();
            ui::note("stats", stats_text(m.stats));
        }
        ImGui::Dummy({column, 0});
        ImGui::EndGroup();
        ImGui::PopID();
    }
    ImGui::SetCursorPosX(x);
    if (last && !app_.chats.generating(c)) {
        ImGui::BeginDisabled(!app_.ready(0));
        if (ui::ghost_button(t, icon::again, "Regenerate both"))
            app_.chats.regenerate(c, answers.front(), app_.answering()), at_end_ = true;
        ImGui::EndDisabled();
    }
}

void ChatView::welcome() {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(0);
    ImGui::Dummy({0, std::max(t.px(20), ImGui::GetContentRegionAvail().y * 0.3f)});
    auto line = [&](ImFont* font, float factor, ImU32 color, const std::string& text) {
        ImGui::PushFont(font, t.size * factor);
        const float w = std::min(ImGui::CalcTextSize(text.c_str()).x, ImGui::GetContentRegionAvail().x - t.px(40));
        ui::centered(w);
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + w + t.px(2));
        ui::text(t, color, text);
        ImGui::PopTextWrapPos();
        ImGui::PopFont();
    };
    switch (s.status) {
        case EngineStatus::ready:
            line(t.fonts.bold, 1.6f, t.colors.text, s.name);
            line(t.fonts.regular, 1, t.colors.dim,
                 fmt::format("{} in memory on {}, context of {} tokens", human_bytes(double(s.memory.total())), s.device,
                             with_commas(s.context)));
            if (s.cpu)
                line(t.fonts.regular, 0.92f, t.colors.warn, "No GPU is used: this device is a CPU, and answers come slowly");
            if (!s.made_for_chat)
                line(t.fonts.regular, 0.92f, t.colors.dim, "The model has no chat template: it continues what you write");
            break;
        case EngineStatus::loading:
            line(t.fonts.bold, 1.3f, t.colors.text, "Loading " + s.name);
            line(t.fonts.regular, 1, t.colors.dim, s.message);
            break;
        case EngineStatus::failed:
            line(t.fonts.bold, 1.3f, t.colors.text, s.name + " was not loaded");
            line(t.fonts.regular, 1, t.colors.bad, s.message);
            break;
        case EngineStatus::empty:
            line(t.fonts.bold, 1.6f, t.colors.text, "Talk to a small model");
            line(t.fonts.regular, 1, t.colors.dim, "Choose a model at the top, or add a folder with models.");
            ImGui::Dummy({0, t.px(6)});
            ui::centered(t.px(190));
            if (ui::primary_button(t, icon::folder, "Add models", {t.px(190), t.px(38)})) {
                app_.view = View::models;
                app_.open_dialog("Add a folder with models", true, ".gguf",
                                 [this](const std::filesystem::path& p) { app_.add_to_library(p); });
            }
            break;
    }
}
}  // namespace vkqat
