// Conversations: the side bar, the messages, the box to write in, and how answers are sampled.
#pragma once

#include <map>
#include <string>

#include "app/ui/app.h"
#include "app/ui/rich_text.h"

namespace vkqat {

inline constexpr float chat_column_width = 760;  // of the text, in the design's pixels

class ChatView {
public:
    explicit ChatView(App& app);
    void draw(ImVec2 size);

    void new_chat();
    void open(const std::string& id);
    void stop();
    void focus_search();
    void toggle_sidebar();
    void toggle_panel();
    void focus_input() { focus_input_ = true; }
    void regenerate_last();
    void continue_last();
    void delete_current();
    void next(int step);
    void export_current(bool markdown);
    void import();
    void copy_last();
    bool settling() const { return settling_; }  // whether the next frame scrolls on by itself
    Conversation* current() { return app_.chats.find(app_.settings.conversation); }

private:
    void sidebar(float width);
    void conversation_row(Conversation& c, float width);
    void header(Conversation* c);
    void messages(Conversation& c, float height);
    void message(Conversation& c, int at, int item, float width, bool last);
    std::vector<int> shown_at(const Conversation& c, int at) const;  // a message, or two answers side by side
    std::string selected_text(Conversation& c);
    void side_by_side(Conversation& c, const std::vector<int>& answers, int item, float width, bool last);
    void answer_body(Conversation& c, int at, int item, float width, bool beside);
    void sibling_switch(Conversation& c, int at, const char* what, float gap);
    void answer_tools(Conversation& c, int at, float width, bool last);
    void welcome();
    void composer(Conversation* c, float width);
    void settings_panel(Conversation& c, float width);
    bool preset_picker(Conversation& c);
    void overlay(Conversation* c, ImVec2 corner, ImVec2 size);
    void model_picker(int engine);
    void send();

    App& app_;
    std::map<std::pair<std::string, int>, RichText> texts_;  // by conversation and message
    std::string input_, search_, editing_text_, rename_text_, renaming_;
    std::string system_, system_of_;  // the system prompt as it is shown, and whose it is
    bool system_active_ = false;
    int editing_ = -1;
    // In a window that is too narrow for side bar or settings they come over the conversation, when asked for.
    enum class Over { none, sidebar, settings } over_ = Over::none;
    bool sidebar_fits_ = true, panel_fits_ = true;
    ImVec2 scroll_seen_;  // of the messages, and how far it goes
    bool settling_ = false, naming_preset_ = false, focus_preset_ = false;
    std::string preset_name_;
    bool focus_input_ = true, focus_search_ = false, focus_edit_ = false, focus_rename_ = false, at_end_ = true;
    std::string shown_;                               // the conversation whose draft is in input_
    TextSelection selection_;                         // over all messages of the conversation
    std::map<int, std::pair<float, float>> heights_;  // of messages at a width: what is far away is not laid out
};

}  // namespace vkqat
