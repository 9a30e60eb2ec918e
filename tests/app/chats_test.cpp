// What can be done with conversations, with an engine that has no model.
#include "app/core/chats.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tests/app/folder_test.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

class ChatsTest : public FolderTest {
protected:
    void SetUp() override {
        store = std::make_unique<Store>(folder);
        // Without a model every answer fails, which is what a model that cannot run looks like.
        chats = std::make_unique<Chats>(*store, Chats::Engines{[this](int, AnswerRequest r) {
                                                                   requests.push_back(r);
                                                                   return engine.answer(std::move(r));
                                                               },
                                                               [](int e) { return "model " + std::to_string(e); }});
    }
    void TearDown() override {
        chats.reset();
        store.reset();
    }
    void finish() {
        for (int i = 0; i < 200 && !chats->generations().empty(); i++) chats->poll(i), ::usleep(5000);
        ASSERT_TRUE(chats->generations().empty());
    }
    std::vector<AnswerRequest> requests;
    Engine engine{[] {}};
    std::unique_ptr<Store> store;
    std::unique_ptr<Chats> chats;
};

TEST_F(ChatsTest, AFailedAnswerSaysWhyAndStays) {
    Conversation& c = chats->create({}, "");
    chats->send(c, "hello", {0});
    finish();
    ASSERT_EQ(c.messages.size(), 2u);
    EXPECT_EQ(c.messages[1].stats.end, "no model is loaded");
    EXPECT_EQ(c.messages[1].model, "model 0");
    store->wait();
    Store again(folder);
    EXPECT_EQ(again.load().conversations.at(0).messages.at(1).stats.end, "no model is loaded");
}

TEST_F(ChatsTest, TwoModelsAnswerTheSameMessage) {
    Conversation& c = chats->create({}, "");
    chats->send(c, "hello", {0, 1});
    finish();
    EXPECT_EQ(c.siblings(1), (std::vector<int>{1, 2}));
    EXPECT_EQ(c.messages[2].model, "model 1");
    EXPECT_EQ(c.path(), (std::vector<int>{0, 1}));
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_EQ(requests[1].messages.size(), 1u);  // the other model's answer is no part of the prompt
}

TEST_F(ChatsTest, RegeneratingAndContinuingAskForTheRightThing) {
    Conversation& c = chats->create({}, "");
    c.settings.system = "s";
    const int question = c.add(-1, Role::user, "q");
    const int answer = c.add(question, Role::assistant, "begun");
    chats->regenerate(c, answer, {0});
    finish();
    EXPECT_EQ(requests[0].messages.size(), 2u);
    EXPECT_FALSE(requests[0].continue_last);
    EXPECT_EQ(c.messages[size_t(answer)].content, "begun");
    chats->continue_answer(c, answer, 0);
    finish();
    EXPECT_EQ(requests[1].messages.size(), 3u);
    EXPECT_TRUE(requests[1].continue_last);
    EXPECT_EQ(c.messages[size_t(answer)].content, "begun");  // it failed: what was there stays
}

TEST_F(ChatsTest, EditsBecomeSiblings) {
    Conversation& c = chats->create({}, "");
    const int question = c.add(-1, Role::user, "q");
    const int answer = c.add(question, Role::assistant, "a");
    chats->edit(c, answer, "better", {0});
    EXPECT_TRUE(requests.empty());  // an edited answer stands as it is
    EXPECT_EQ(c.messages[size_t(c.path().back())].content, "better");
    chats->edit(c, question, "other", {0});
    EXPECT_EQ(requests.size(), 1u);
    finish();
    EXPECT_EQ(c.siblings(question).size(), 2u);
}

TEST_F(ChatsTest, DeletesAndUndoes) {
    Conversation& c = chats->create({}, "");
    c.add(-1, Role::user, "q");
    chats->changed(c);
    const std::string id = c.id;
    chats->remove(id);
    EXPECT_EQ(chats->find(id), nullptr);
    store->wait();
    EXPECT_FALSE(fs::exists(folder / (id + ".json")));
    ASSERT_NE(chats->undo_remove(), nullptr);
    store->wait();
    EXPECT_TRUE(fs::exists(folder / (id + ".json")));
    EXPECT_EQ(chats->undo_remove(), nullptr);
}

TEST_F(ChatsTest, SortsPinnedFirstThenByTime) {
    Conversation& a = chats->create({}, "");
    Conversation& b = chats->create({}, "");
    Conversation& c = chats->create({}, "");
    a.updated = 3, b.updated = 2, c.updated = 1;
    c.pinned = true;
    const auto sorted = chats->sorted();
    EXPECT_EQ(sorted, (std::vector<Conversation*>{&c, &a, &b}));
}

TEST_F(ChatsTest, SearchFindsTitlesAndTexts) {
    for (int i = 0; i < 20; i++) {
        Conversation& c = chats->create({}, "");
        c.add(-1, Role::user, i == 7 ? "a Walrus here" : "nothing");
        if (i == 9) c.title = "walruses", c.titled = true;
    }
    chats->search("walrus");
    while (!chats->search_step(1e-6)) {
    }
    EXPECT_EQ(chats->hits().size(), 2u);
}

}  // namespace
}  // namespace vkqat
