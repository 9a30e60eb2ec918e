// Conversations on disk: what a killed program, a torn journal or a damaged file leaves behind.
#include "app/core/store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/support/files.h"
#include "tests/app/folder_test.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

using StoreTest = FolderTest;

TEST_F(StoreTest, SavesAndLoads) {
    Conversation c = new_conversation();
    c.add(-1, Role::user, "hello");
    {
        Store store(folder);
        store.save(c);
    }
    Store store(folder);
    const Store::Found found = store.load();
    ASSERT_EQ(found.conversations.size(), 1u);
    EXPECT_EQ(found.conversations[0].id, c.id);
    EXPECT_EQ(found.conversations[0].messages[0].content, "hello");
    EXPECT_TRUE(found.damaged.empty());
}

TEST_F(StoreTest, TheJournalBringsBackAnAnswerThatWasUnderWay) {
    Conversation c = new_conversation();
    const int question = c.add(-1, Role::user, "hello");
    const int answer = c.add(question, Role::assistant, "");
    {
        Store store(folder);
        store.save(c);
        store.append(c, answer, 0, "Once ");
        store.append(c, answer, 5, "upon “a”\n");
        store.append(c, answer, 5, "upon a time");  // the same place again: the later one holds
        store.wait();
    }
    EXPECT_TRUE(fs::exists(folder / (c.id + ".journal")));
    for (int round = 0; round < 2; round++) {
        Store store(folder);
        const Store::Found found = store.load();
        ASSERT_EQ(found.conversations.size(), 1u);
        EXPECT_EQ(found.conversations[0].messages[size_t(answer)].content, "Once upon a time");
        EXPECT_EQ(found.conversations[0].messages[size_t(answer)].stats.end, "stopped");
        EXPECT_FALSE(fs::exists(folder / (c.id + ".journal")));
    }
}

TEST_F(StoreTest, ATornJournalGivesWhatIsWhole) {
    Conversation c = new_conversation();
    const int answer = c.add(-1, Role::assistant, "");
    {
        Store store(folder);
        store.save(c);
        store.append(c, answer, 0, "whole");
        store.append(c, answer, 5, " and torn");
        store.wait();
    }
    const fs::path journal = folder / (c.id + ".journal");
    fs::resize_file(journal, fs::file_size(journal) - 4);
    Store store(folder);
    EXPECT_EQ(store.load().conversations.at(0).messages[0].content, "whole");
}

TEST_F(StoreTest, AJournalOfGarbageChangesNothing) {
    Conversation c = new_conversation();
    c.add(-1, Role::assistant, "kept");
    {
        Store store(folder);
        store.save(c);
    }
    for (const char* text : {"garbage\n", "{}\n", "{\"message\": 9, \"at\": 0, \"text\": \"x\"}\n",
                             "{\"message\": 0, \"at\": 99, \"text\": \"x\"}\n", "{\"message\": -1, \"at\": 0, \"text\": \"x\"}\n",
                             "{\"message\": 0, \"at\": -1, \"text\": \"x\"}\n", "\n\n"}) {
        write_text_file(folder / (c.id + ".journal"), text);
        Store store(folder);
        EXPECT_EQ(store.load().conversations.at(0).messages[0].content, "kept") << text;
    }
}

TEST_F(StoreTest, ADamagedFileIsSetAsideAndNamedAndTheRestOpens) {
    Conversation c = new_conversation();
    c.add(-1, Role::user, "good");
    {
        Store store(folder);
        store.save(c);
    }
    write_text_file(folder / "bad.json", "{\"messages\": [");
    Store store(folder);
    const Store::Found found = store.load();
    EXPECT_EQ(found.conversations.size(), 1u);
    ASSERT_EQ(found.damaged.size(), 1u);
    EXPECT_NE(found.damaged[0].find("bad.json"), std::string::npos);
    EXPECT_TRUE(fs::exists(folder / "bad.json.damaged"));
    EXPECT_FALSE(fs::exists(folder / "bad.json"));
    write_text_file(folder / "bad.json", "again");  // the first one stays
    Store(folder).load();
    EXPECT_TRUE(fs::exists(folder / "bad.json.damaged2"));
}

TEST_F(StoreTest, DeletingCanBeUndone) {
    Conversation c = new_conversation();
    c.add(-1, Role::user, "hello");
    Store store(folder);
    store.save(c);
    store.remove(c.id);
    store.wait();
    EXPECT_FALSE(fs::exists(folder / (c.id + ".json")));
    store.restore(c.id);
    store.wait();
    EXPECT_TRUE(fs::exists(folder / (c.id + ".json")));
}

// A process that saves and appends without end is killed at random moments: the folder always opens, with a whole prefix.
TEST_F(StoreTest, KilledAtAnyMomentNothingIsDamaged) {
    for (int round = 0; round < 12; round++) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            Store store(folder);
            Conversation c = new_conversation();
            c.id = "killed";
            const int answer = c.add(-1, Role::assistant, "");
            std::string& text = c.messages[0].content;
            for (int i = 0;; i++) {
                const std::string piece = std::to_string(i) + " ";
                store.append(c, answer, text.size(), piece);
                text += piece;
                if (i % 7 == 0) store.save(c);
                if (i % 50 == 0) store.wait();
            }
        }
        ::usleep(useconds_t(20000 + 7000 * round));
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        Store store(folder);
        const Store::Found found = store.load();
        EXPECT_TRUE(found.damaged.empty()) << found.damaged.front();
        if (found.conversations.empty()) continue;  // killed before the first save
        const std::string& text = found.conversations[0].messages[0].content;
        std::string expected;
        for (int i = 0; expected.size() < text.size(); i++) expected += std::to_string(i) + " ";
        EXPECT_EQ(text, expected);
    }
}

TEST_F(StoreTest, AFolderThatCannotBeWrittenIsSaid) {
    Store store(folder);
    fs::create_directory(folder / "x.json");
    Conversation c = new_conversation();
    c.id = "x";
    store.save(c);
    store.wait();
    EXPECT_NE(store.take_error().find("x.json"), std::string::npos);
    EXPECT_TRUE(store.take_error().empty());
}

}  // namespace
}  // namespace vkqat
