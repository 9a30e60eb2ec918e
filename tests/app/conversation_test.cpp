// The tree of a conversation, its file, and what comes from outside.
#include "app/core/conversation.h"

#include <gtest/gtest.h>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

Conversation sample() {
    Conversation c = new_conversation();
    const int question = c.add(-1, Role::user, "What color is the sky?");
    const int first = c.add(question, Role::assistant, "Green.");
    c.messages[size_t(first)].model = "model-a";
    const int second = c.add(question, Role::assistant, "Blue, with \"clouds\"\nand ü 天.");
    c.messages[size_t(second)].stats = {12, 4, 9, 0.25, 31.5, 1000, "stopped"};
    c.settings.system = "Be brief.";
    c.settings.sampling.temperature = 0.5;
    c.settings.sampling.seed = 7;
    return c;
}

TEST(Conversation, KeepsEveryAlternativeAndShowsTheChosenOne) {
    Conversation c = sample();
    EXPECT_EQ(c.path(), (std::vector<int>{0, 2}));
    EXPECT_EQ(c.siblings(2), (std::vector<int>{1, 2}));
    c.choose(1);
    EXPECT_EQ(c.path(), (std::vector<int>{0, 1}));
    const int next = c.add(1, Role::user, "Really?");
    EXPECT_EQ(c.path(), (std::vector<int>{0, 1, next}));
    c.choose(2);
    EXPECT_EQ(c.path(), (std::vector<int>{0, 2}));
    c.choose(next);  // brings its branch back
    EXPECT_EQ(c.path(), (std::vector<int>{0, 1, next}));
}

TEST(Conversation, EditingTheBeginningKeepsTheOldBranch) {
    Conversation c = sample();
    const int other = c.add(-1, Role::user, "What color is grass?");
    EXPECT_EQ(c.path(), (std::vector<int>{other}));
    EXPECT_EQ(c.siblings(other), (std::vector<int>{0, other}));
    c.choose(0);
    EXPECT_EQ(c.path(), (std::vector<int>{0, 2}));
}

TEST(Conversation, ItsPromptEndsAtTheMessageAndBeginsWithTheSystem) {
    const Conversation c = sample();
    const std::vector<ChatMessage> prompt = c.prompt(1);
    ASSERT_EQ(prompt.size(), 3u);
    EXPECT_EQ(prompt[0].role, "system");
    EXPECT_EQ(prompt[1].content, "What color is the sky?");
    EXPECT_EQ(prompt[2].content, "Green.");
}

TEST(Conversation, ComesBackFromItsFileAsItWas) {
    const Conversation c = sample();
    Conversation back = conversation_from_json(to_json(c), "test");
    ASSERT_EQ(back.messages.size(), c.messages.size());
    EXPECT_EQ(back.path(), c.path());
    EXPECT_EQ(back.messages[2].content, c.messages[2].content);
    EXPECT_EQ(back.messages[2].stats, c.messages[2].stats);
    EXPECT_EQ(back.messages[1].model, "model-a");
    EXPECT_EQ(back.settings.system, "Be brief.");
    EXPECT_EQ(back.settings.sampling.temperature, 0.5);
    EXPECT_EQ(back.settings.sampling.seed, 7u);
    EXPECT_FALSE(back.settings.sampling.top_k.has_value());
    EXPECT_EQ(to_json(back), to_json(c));
}

TEST(Conversation, TakesWhatTheCommandLineSaves) {
    const Conversation c = conversation_from_json(
        R"({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}]})",
        "chat.json");
    EXPECT_EQ(c.settings.system, "s");
    ASSERT_EQ(c.path().size(), 2u);
    EXPECT_EQ(c.messages[1].content, "b");
}

TEST(Conversation, DamagedFilesAreErrorsThatNameThem) {
    const std::string good = to_json(sample());
    for (const std::string& bad :
         {std::string(""), std::string("{}"), std::string("[]"), std::string("null"), good.substr(0, good.size() / 2),
          std::string(R"({"format": "x", "messages": [{"parent": 0, "role": "user", "content": ""}]})"),
          std::string(R"({"format": "x", "messages": [{"parent": -2, "role": "user", "content": ""}]})"),
          std::string(R"({"format": "x", "messages": [{"parent": -1, "role": "pirate", "content": ""}]})"),
          std::string(R"({"format": "x", "messages": [{"parent": -1, "role": "user", "content": 3}]})"),
          std::string(R"({"format": "x", "version": 2, "messages": []})"), std::string(R"({"messages": 3})"),
          R"({"messages": )" + std::string(100000, '[')}) {
        try {
            conversation_from_json(bad, "some.json");
            ADD_FAILURE() << "was taken: " << bad.substr(0, 80);
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find("some.json"), std::string::npos) << e.what();
        }
    }
}

TEST(Conversation, ChoicesThatAreNoneAreRepaired) {
    const Conversation c = conversation_from_json(
        R"({"format": "x", "first": 99, "messages": [{"parent": -1, "chosen": 7, "role": "user", "content": "a"},
            {"parent": 0, "chosen": 0, "role": "assistant", "content": "b"}]})",
        "test");
    EXPECT_EQ(c.path(), (std::vector<int>{0, 1}));
}

TEST(Conversation, ItsTitleIsTheFirstLineShortened) {
    Conversation c = new_conversation();
    EXPECT_EQ(c.shown_title(), "New chat");
    c.add(-1, Role::user, std::string(100, 'x') + "\nsecond");
    EXPECT_EQ(c.shown_title(), std::string(60, 'x') + "…");
    c.title = "Mine";
    c.titled = true;
    EXPECT_EQ(c.shown_title(), "Mine");
}

TEST(Conversation, MarkdownHoldsWhatIsShown) {
    const std::string text = to_markdown(sample());
    EXPECT_NE(text.find("# What color is the sky?"), std::string::npos);
    EXPECT_NE(text.find("Blue, with"), std::string::npos);
    EXPECT_EQ(text.find("Green."), std::string::npos);
}

TEST(Conversation, SearchMindsNoCase) {
    EXPECT_EQ(find_text("Hello World", "world"), 6u);
    EXPECT_EQ(find_text("Hello", "x"), std::string::npos);
    EXPECT_EQ(find_text("", "x"), std::string::npos);
    EXPECT_EQ(find_text("abc", ""), 0u);
}

}  // namespace
}  // namespace vkqat
