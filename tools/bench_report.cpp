#include "tools/bench_report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace vkqat {

nlohmann::json timing(const std::string& name, std::vector<double> seconds) {
    std::sort(seconds.begin(), seconds.end());
    return {{"name", name},
            {"microseconds", seconds[seconds.size() / 2] * 1e6},
            {"fastest", seconds.front() * 1e6},
            {"slowest", seconds.back() * 1e6}};
}

namespace {

// "layers.12.qkv" -> "qkv", "backward.layers.12.qkv" -> "backward.qkv"
std::string kind_of(const std::string& label) {
    const size_t layers = label.find("layers.");
    if (layers == std::string::npos) return label;
    const size_t dot = label.find('.', layers + 7);
    return dot == std::string::npos ? label : label.substr(0, layers) + label.substr(dot + 1);
}

}  // namespace

nlohmann::json by_node(const std::vector<ProfileRow>& rows) {
    struct Sum {
        int count = 0;
        double seconds = 0, bytes = 0, flops = 0;
    };
    std::vector<std::string> order;
    std::map<std::string, Sum> sums;
    for (const ProfileRow& r : rows) {
        std::string kind = kind_of(r.label);
        if (!sums.contains(kind)) order.push_back(kind);
        Sum& s = sums[kind];
        s.count++, s.seconds += r.seconds, s.bytes += r.bytes, s.flops += r.flops;
    }
    nlohmann::json table = nlohmann::json::array();
    for (const std::string& kind : order) {
        const Sum& s = sums[kind];
        table.push_back({{"node", kind},
                         {"count", s.count},
                         {"microseconds", s.seconds * 1e6},
                         {"each", s.seconds / s.count * 1e6},
                         {"GB_per_s", s.bytes / s.seconds / 1e9},
                         {"TFLOP_per_s", s.flops / s.seconds / 1e12}});
    }
    return table;
}

}  // namespace vkqat
