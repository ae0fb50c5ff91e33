#include "weft/engine/functional.h"

#include <cstring>

#include "weft/engine/tape.h"

namespace weft {
namespace {

/// A leaf of its own with the values of x.
Tensor leaf(const Tensor& x) {
  const Tensor t = x.detach();
  t.set_requires_grad();
  return t;
}

Tensor zeros_like(const Tensor& x) { return Tensor::zeros(x.shape(), x.dtype(), x.device()); }

Tensor value_of(const char* name, const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  const Tensor y = f(x);
  check(y.defined(), name, ": the function returned an undefined tensor");
  return y;
}

/// The gradients of y, one element after the other: [y.., x..].
Tensor rows(Tape& tape, const Tensor& y, const Tensor& x) {
  Shape shape = y.shape();
  for (int i = 0; i < x.ndim(); ++i) shape.push_back(x.size(i));
  const Tensor all = Tensor::zeros(shape, x.dtype());
  if (!y.requires_grad()) return all.to(x.device());
  for (int64_t i = 0; i < y.numel(); ++i) {
    const Tensor one = Tensor::zeros(y.shape(), DType::f64);
    one.data<double>()[i] = 1;
    const Tensor row = tape.grad(y, {x},
                                 {.grad_outputs = {one.to(y.dtype()).to(y.device())},
                                  .retain_graph = true,
                                  .materialize_grads = true})[0]
                           .to(Device::cpu);
    std::memcpy(static_cast<char*>(all.raw()) + i * row.bytes(), row.raw(), size_t(row.bytes()));
  }
  return all.to(x.device());
}

}  // namespace

HvpResult hvp(const std::function<Tensor()>& f, const std::vector<Tensor>& parameters,
              const std::vector<Tensor>& v) {
  check(v.size() == parameters.size(), "hvp: ", v.size(), " vectors for ", parameters.size(), " parameters");
  for (size_t i = 0; i < v.size(); ++i)
    check(v[i].shape() == parameters[i].shape() && v[i].dtype() == parameters[i].dtype(), "hvp: vector ", i,
          " is ", v[i].dtype(), " ", v[i].shape(), " but the parameter is ", parameters[i].dtype(), " ",
          parameters[i].shape());
  Tape tape;
  HvpResult r;
  const Tensor y = f();
  check(y.defined() && y.numel() == 1, "hvp: the function must give one element");
  r.value = y.detach();
  if (!y.requires_grad()) {
    for (const Tensor& p : parameters)
      r.gradient.push_back(zeros_like(p)), r.product.push_back(zeros_like(p));
    return r;
  }
  const auto gradient = tape.grad(y, parameters, {.create_graph = true, .materialize_grads = true});
  std::vector<Tensor> outputs, along;  // gradients that depend on something
  for (size_t i = 0; i < gradient.size(); ++i) {
    r.gradient.push_back(gradient[i].detach());
    if (!gradient[i].requires_grad()) continue;
    outputs.push_back(gradient[i]);
    along.push_back(v[i]);
  }
  if (outputs.empty())
    for (const Tensor& p : parameters) r.product.push_back(zeros_like(p));
  else
    r.product = tape.grad(outputs, parameters, {.grad_outputs = along, .materialize_grads = true});
  return r;
}

Tensor vjp(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& v) {
  Tape tape;
  const Tensor in = leaf(x), y = value_of("vjp", f, in);
  if (!y.requires_grad()) return zeros_like(x);
  return tape.grad(y, {in}, {.grad_outputs = {v}, .materialize_grads = true})[0];
}

Tensor jvp(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& v) {
  Tape tape;
  const Tensor in = leaf(x), y = value_of("jvp", f, in);
  if (!y.requires_grad()) return zeros_like(y);
  const Tensor u = leaf(zeros_like(y));  // any point will do
  const Tensor g =
      tape.grad(y, {in}, {.grad_outputs = {u}, .create_graph = true, .materialize_grads = true})[0];
  if (!g.requires_grad()) return zeros_like(y);
  return tape.grad(g, {u}, {.grad_outputs = {v}, .materialize_grads = true})[0];
}

Tensor jacobian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  Tape tape;
  const Tensor in = leaf(x);
  return rows(tape, value_of("jacobian", f, in), in);
}

Tensor hessian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  Tape tape;
  const Tensor in = leaf(x), y = value_of("hessian", f, in);
  check(y.numel() == 1, "hessian: the function gives ", y.shape(), ", not one element");
  if (!y.requires_grad()) return rows(tape, zeros_like(in), in);
  return rows(tape, tape.grad(y, {in}, {.create_graph = true, .materialize_grads = true})[0], in);
}

}  // namespace weft
