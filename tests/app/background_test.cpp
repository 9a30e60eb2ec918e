// Work beside the interface's thread: what is made there, and a search that is ended.
#include "app/core/background.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "app/core/library.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

void wait_for(const std::atomic<int>& count, int wanted) {
    for (int i = 0; i < 1000 && count < wanted; i++) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST(Background, GivesTheNewestResultOnceAndSaysWhatFailed) {
    std::atomic<int> ready = 0;
    Background<int> background([&] { ready++; });
    EXPECT_FALSE(background.take());
    background.ask([] { return 3; });
    wait_for(ready, 1);
    EXPECT_EQ(background.take(), 3);
    EXPECT_FALSE(background.take());
    background.ask([]() -> int { throw std::runtime_error("no such file"); });
    wait_for(ready, 2);
    EXPECT_FALSE(background.take());
    EXPECT_EQ(background.error(), "no such file");
    background.ask([] { return 4; });
    wait_for(ready, 3);
    EXPECT_EQ(background.take(), 4);
    EXPECT_EQ(background.error(), "");
}

TEST(Background, WhatIsAskedForLaterTakesThePlaceOfWhatIsBeingMade) {
    std::atomic<int> ready = 0, begun = 0;
    std::atomic<bool> go_on = false;
    Background<int> background([&] { ready++; });
    background.ask([&] {
        begun++;
        while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return 1;
    });
    wait_for(begun, 1);
    background.ask([&] { return begun++, 2; });  // never begun: the next one comes before
    background.ask([] { return 3; });
    go_on = true;
    wait_for(ready, 1);
    EXPECT_EQ(background.take(), 3);
    EXPECT_EQ(begun, 1);
    EXPECT_EQ(ready, 1);
}

TEST(FindModels, GivesUpWhenItIsTold) {
    const auto stories = test::data_folder() / "stories260K";
    if (!std::filesystem::exists(stories / "config.json")) GTEST_SKIP() << "no " << stories << ": set VKQAT_DATA";
    std::atomic<bool> stop = false;
    EXPECT_EQ(find_models(stories, &stop).size(), 1u);
    stop = true;
    EXPECT_TRUE(find_models(stories, &stop).empty());
}

}  // namespace
}  // namespace vkqat
