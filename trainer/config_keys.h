// The table of all configuration keys: the one place that says what there is, what it means and what it allows.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trainer/config.h"

namespace vkqat {

// What a value may be. Numbers: low..high, or one of `choices` where there are any. Strings: one of `choices`, or anything.
struct Allowed {
    double low = 0, high = max_whole;
    bool without_low = false, without_high = false;
    std::vector<std::string> choices;

    static constexpr double max_whole = 9007199254740992;  // 2^53: every whole number up to here is a double, too
};

// One key, and where its value lies in one TrainConfig.
struct ConfigKey {
    std::string_view section, name;
    std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*, std::vector<int64_t>*,
                 std::vector<DatasetConfig>*>
        value;
    Allowed allowed;
    std::string_view help;

    std::string full_name() const;  // section.name
};

// All keys, section by section, pointing into `config`.
std::vector<ConfigKey> config_keys(TrainConfig& config);

std::string_view type_text(const ConfigKey& key);  // "a whole number"
std::string allowed_text(const ConfigKey& key);    // "above 0", "linear, sqrt or cosine"; empty: anything
std::string value_text(const ConfigKey& key);      // as TOML

// Error naming the key, its value and what is allowed; `where` begins the message.
void check_allowed(const ConfigKey& key, std::string_view where);

}  // namespace vkqat
