#include "runtime/graph/graph.h"

#include <set>
#include <utility>

#include "shaders/args/add.h"

namespace vkqat {

Grid linear_grid(int64_t count) {
    constexpr int64_t width = 32768;
    if (count > width * 65535) fail("a grid of {} workgroups is too large", count);
    if (count <= width) return {uint32_t(count), 1, 1};
    return {uint32_t(width), uint32_t((count + width - 1) / width), 1};
}

void expect(Tensor t, const Shape& shape, DType dtype, std::string_view what) {
    if (!t) fail("{}: is absent", what);
    if (t.shape() != shape || t.dtype() != dtype)
        fail("{} ('{}'): expected {} {}, found {} {}", what, t.name(), name(dtype), shape.text(), name(t.dtype()),
             t.shape().text());
}

Tensor Graph::tensor(const Shape& shape, DType dtype, std::string name) {
    storages_.push_back({name, uint64_t(shape.elements()) * bytes(dtype)});
    tensors_.push_back({std::move(name), shape, dtype, uint32_t(storages_.size() - 1), 0});
    gradients_.emplace_back();
    return {this, uint32_t(tensors_.size() - 1)};
}

Tensor Graph::external(const Buffer& buffer, uint64_t offset, const Shape& shape, DType dtype, std::string name) {
    Tensor t = tensor(shape, dtype, std::move(name));
    if (buffer && offset + t.bytes() > buffer.bytes())
        fail("tensor '{}' needs {} bytes at {}, but its buffer has {}", t.name(), t.bytes(), offset, buffer.bytes());
    Storage& s = storages_.back();
    constexpr uint64_t nowhere = uint64_t(1) << 62;  // aligned to everything
    s.address = (buffer ? buffer.address() : nowhere) + offset;
    s.buffer = buffer.handle();
    s.buffer_offset = offset;
    return t;
}

Tensor Graph::address_table(std::vector<Access> externals, std::string name) {
    std::vector<uint64_t> addresses;
    bool planned = false;
    for (const Access& a : externals) {
        const Storage* storage = a.tensor ? &storages_[info(a.tensor).storage] : nullptr;
        if (storage && !storage->address) fail("table '{}': '{}' is no external tensor", name, a.tensor.name());
        if (storage && !storage->buffer) planned = true;
        addresses.push_back(storage ? storage->address + info(a.tensor).offset : 0);
    }
    AddressTable table{{}, std::move(externals)};
    if (!planned) {
        table.buffer = device_.allocate(addresses.size() * 8, name);
        device_.upload(table.buffer, 0, std::as_bytes(std::span(addresses)));
    }
    Tensor t = external(table.buffer, 0, {int64_t(addresses.size())}, DType::i64, std::move(name));
    address_tables_.emplace(info(t).storage, std::move(table));
    return t;
}

std::span<const Access> Graph::uses_of(Tensor t) const {
    const auto found = address_tables_.find(info(t).storage);
    return found == address_tables_.end() ? std::span<const Access>() : found->second.uses;
}

Tensor Graph::view(Tensor of, uint64_t byte_offset, const Shape& shape, std::string name) {
    const TensorInfo& whole = info(of);
    uint64_t need = byte_offset + uint64_t(shape.elements()) * bytes(whole.dtype);
    if (need > of.bytes()) fail("view '{}' of '{}' reaches byte {} of {}", name, of.name(), need, of.bytes());
    TensorInfo part{std::move(name), shape, whole.dtype, whole.storage, whole.offset + byte_offset};
    tensors_.push_back(std::move(part));
    gradients_.emplace_back();
    return {this, uint32_t(tensors_.size() - 1)};
}

void Graph::set_parameter(Tensor weight, Tensor gradient, bool accumulate) {
    expect(gradient, weight.shape(), DType::f32, "gradient of " + weight.name());
    GradientState& s = gradients_[weight.id_];
    s.required = true;
    s.parameter = gradient;
    s.accumulate = accumulate;
}

void Graph::add_node(const Kernel& kernel, std::vector<Access> accesses, uint32_t address_count, std::span<const std::byte> args,
                     const Grid& grid, std::string label, const Cost& cost) {
    if (accesses.size() != address_count)
        fail("node '{}': its arguments hold {} addresses, {} tensors were given", label, address_count, accesses.size());
    if (args.size() > capabilities().push_constant_bytes)
        fail("node '{}': {} bytes of arguments, the device takes {}", label, args.size(), capabilities().push_constant_bytes);
    Node node;
    node.label = scope_.empty() ? std::move(label) : scope_ + "." + label;
    node.pipeline = device_.pipelines().request(kernel);
    node.arguments.assign(args.begin(), args.end());
    node.grid = grid;
    node.flops = cost.flops;
    node.bytes = cost.bytes;
    if (cost.bytes < 0) {
        node.bytes = 0;
        for (const Access& a : accesses)
            if (a.tensor) node.bytes += double(a.tensor.bytes()) * (int(a.reads) + int(a.writes));
    }
    if (backward_)
        for (Access& a : accesses)
            if (a.tensor && a.reads) a.tensor = restored(a.tensor);
    node.accesses = std::move(accesses);
    nodes_.push_back(std::move(node));
}

void Graph::recompute(Tensor t) {
    const uint32_t storage = info(t).storage;
    if (!training() || storages_[storage].address != 0) return;
    recomputed_.resize(storages_.size());
    recomputed_[storage] = true;
}

void Graph::recompute_by(Tensor t, std::function<void(Graph&, Tensor)> how) {
    if (training()) makers_[info(t).storage] = {t, std::move(how)};
}

void Graph::recompute_since(size_t first, Tensor kept) {
    for (size_t id = first; id < tensors_.size(); id++) {
        Tensor t(this, uint32_t(id));
        if (info(t).storage != info(kept).storage) recompute(t);
    }
}

// The tensor as a backward node may read it.
Tensor Graph::restored(Tensor t) {
    const uint32_t storage = info(t).storage;
    if (storage >= recomputed_.size() || !recomputed_[storage]) return t;
    if (auto known = restored_.find(t.id_); known != restored_.end()) return known->second;
    if (!copies_.contains(storage)) {
        if (auto maker = makers_.find(storage); maker != makers_.end()) {
            const Maker m = maker->second;
            Tensor again = tensor(m.first.shape(), m.first.dtype(), m.first.name() + ".again");
            copies_[storage] = info(again).storage;
            m.how(*this, again);
        } else {
            restore(storage);
        }
    }
    TensorInfo copy = info(t);
    copy.storage = copies_.at(storage);
    tensors_.push_back(std::move(copy));
    gradients_.emplace_back();
    return restored_[t.id_] = {this, uint32_t(tensors_.size() - 1)};
}

// Adds the nodes that wrote a storage once more, and with them those that wrote what they write besides; they write copies.
void Graph::restore(uint32_t storage) {
    std::set<size_t> nodes;
    std::vector<uint32_t> pending;
    auto copy = [&](uint32_t of) {
        Storage same = storages_[of];
        storages_.push_back(std::move(same));
        copies_[of] = uint32_t(storages_.size() - 1);
        pending.push_back(of);
    };
    copy(storage);
    while (!pending.empty()) {
        const uint32_t next = pending.back();
        pending.pop_back();
        for (size_t writer : writers_[next]) {
            if (!nodes.insert(writer).second) continue;
            for (const Access& a : nodes_[writer].accesses) {
                if (!a.tensor || !a.writes) continue;
                const uint32_t written = info(a.tensor).storage;
                const bool again = written < recomputed_.size() && recomputed_[written];
                if (!again && a.reads)
                    fail("'{}' cannot run again for the backward pass: it changes '{}'", nodes_[writer].label, a.tensor.name());
                if (again && !copies_.contains(written)) copy(written);
            }
        }
    }
    for (size_t number : nodes) {
        Node again = nodes_[number];
        again.label += ".again";
        for (Access& a : again.accesses)
            if (a.tensor) a.tensor = restored(a.tensor);
        nodes_.push_back(std::move(again));
    }
}

bool Graph::requires_gradient(Tensor t) const { return t && gradients_[t.id_].required; }

void Graph::on_backward(Tensor y, std::initializer_list<Tensor> inputs, std::function<void(Graph&, Tensor)> backward) {
    if (!training()) return;
    bool required = false;
    for (Tensor x : inputs) required |= requires_gradient(x);
    if (!required) return;
    gradients_[y.id_].required = true;
    tape_.push_back({y, scope_, std::move(backward)});
}

GradientSlot Graph::gradient_slot(Tensor x, bool rounded) {
    // The state is copied out: tensor() below may move the vector.
    GradientState s = gradients_[x.id_];
    GradientSlot slot;
    if (s.parameter) {
        bool touched = bool(s.tensor);
        slot = {s.parameter, touched || s.accumulate ? s.parameter : Tensor()};
    } else if (!s.tensor) {
        slot = {tensor(x.shape(), rounded ? s.type : DType::f32, "d." + x.name()), {}};
    } else if (s.tensor.dtype() != DType::f32) {
        fail("the gradient of '{}' is kept in {}: only one operation may contribute to it", x.name(), name(s.tensor.dtype()));
    } else if (s.shared) {
        slot = {tensor(x.shape(), DType::f32, "d." + x.name()), s.tensor};
    } else {
        slot = {s.tensor, s.tensor};
    }
    gradients_[x.id_].tensor = slot.out;
    gradients_[x.id_].shared = false;
    return slot;
}

void Graph::pass_gradient(Tensor x, Tensor dy) {
    if (!requires_gradient(x)) return;
    GradientState& s = gradients_[x.id_];
    if (!s.tensor && !s.parameter) {
        s.tensor = dy;
        s.shared = true;
        return;
    }
    GradientSlot slot = gradient_slot(x);
    expect(dy, slot.out.shape(), DType::f32, "gradient of " + x.name());
    if (!slot.base) fail("gradient of parameter '{}' cannot alias another tensor's", x.name());
    dispatch(Kernel{"add", {64, capabilities().uniform_loads() && dy.elements() % 8 == 0, 4}},
             {in(slot.base), in(dy), out(slot.out)}, AddArgs{.count = uint32_t(dy.elements())},
             linear_grid((dy.elements() + 255) / 256), "add", {.flops = double(dy.elements())});
}

Tensor Graph::gradient(Tensor x) const { return gradients_[x.id_].tensor; }

void Graph::backward(Tensor loss, Tensor seed) {
    gradients_[loss.id_].tensor = seed;
    gradients_[loss.id_].shared = true;
    std::string scope = scope_;
    for (size_t n = 0; n < nodes_.size(); n++)
        for (const Access& a : nodes_[n].accesses)
            if (a.tensor && a.writes) writers_[info(a.tensor).storage].push_back(n);
    backward_ = true;
    for (auto entry = tape_.rbegin(); entry != tape_.rend(); ++entry) {
        Tensor dy = gradients_[entry->y.id_].tensor;
        if (!dy) continue;
        scope_ = entry->scope.empty() ? "backward" : "backward." + entry->scope;
        entry->backward(*this, dy);
    }
    tape_.clear();
    backward_ = false;
    scope_ = scope;
}

}  // namespace vkqat
