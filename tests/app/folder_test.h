// A fixture with a folder of its own, which goes with the test.
#pragma once

#include "tests/support/scratch_folder.h"

namespace vkqat {

class FolderTest : public testing::Test {
    test::ScratchFolder scratch_;

protected:
    const std::filesystem::path folder = scratch_.path();
};

}  // namespace vkqat
