"""Cycles, traffic and operations by part and work, worked out by hand."""

import jax
import jax.numpy as jnp

from zeroseg_jax.training.plan import costs, work_shares
from zeroseg_jax.training.plan.program import Program
from zeroseg_jax.training.plan.work_shares import Share

# A prefetch into VMEM, a product forward and one backward, a kernel, an update, a nameless copy.
STEP = """HloModule step

ENTRY %main (x: bf16[8,128]) -> bf16[8,128] {
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %start = (bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, bf16[8,128]{1,0:T(8,128)(2,1)}, u32[]) copy-start(%x), metadata={op_name="jit(_step)/mul"}
  %done = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  %up = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%done), kind=kOutput, calls=%a, metadata={op_name="jit(_step)/jvp(Student)/encoder/blocks_0/mlp/fc1/dot_general"}, backend_config={"estimated_cycles":"10"}
  %mix = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} custom-call(%up), custom_call_target="tpu_custom_call", metadata={op_name="jit(_step)/jvp(Student)/encoder/blocks_0/attention/attention_forward_d64/pallas_call"}
  %down = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%mix), kind=kOutput, calls=%b, metadata={op_name="jit(_step)/transpose(jvp(Student))/encoder/blocks_0/mlp/fc1/dot_general"}, backend_config={"estimated_cycles":"30"}
  %filled = f32[] fusion(), kind=kLoop, calls=%c, metadata={op_name="broadcast.540"}, backend_config={"estimated_cycles":"3"}
  ROOT %new = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%down, %x), kind=kLoop, calls=%d, metadata={op_name="jit(_step)/sub"}, backend_config={"estimated_cycles":"7"}
}
"""  # noqa: E501


def test_paths_are_classified_by_module_and_work():
    forward, backward = "jit(_step)/jvp(Student)/", "jit(_step)/transpose(jvp(Student))/"
    for name, expected in {
        forward + "encoder/blocks_3/attention/query/dot_general": ("encoder", "attention products"),
        backward + "decoder/blocks_1/attention/bnld,bnmd->bnlm/exp": ("decoder", "attention core"),
        backward + "head/head._group/grouping_0/cross_mlp/fc1/mul": ("head", "MLP"),
        forward + "encoder/post_norm/norm/reduce_sum": ("encoder", "norms"),
        forward + "encoder/jit(take_along_axis)/gather": ("encoder", "masking"),
        forward + "encoder/blocks_3/add": ("encoder", "other"),
        "jit(_step)/jvp()/reduce_sum": ("losses", "other"),
        "jit(_step)/sqrt": ("update", "other"),
        "": ("copies", "other"),
    }.items():
        assert work_shares.classify(name) == expected, name


def test_a_step_is_split_and_nothing_is_lost():
    program = Program(STEP, 1)
    path = "jvp(Student)/encoder/blocks_0/mlp/fc1"
    flops = {path: 100.0, f"transpose({path.replace(')', '))', 1)}": 200.0}
    shares = work_shares.split_work(program, flops, lambda kernel: 5.0 * kernel.count)
    found = {(share.part, share.work): share for share in shares}
    mlp = found["encoder", "MLP"]
    assert (mlp.cycles, mlp.backward_cycles) == (40, 30)
    assert found["encoder", "attention core"].cycles == 5
    assert found["update", "other"].cycles == 7 and found["copies", "other"].cycles == 3
    assert sum(share.cycles for share in shares) == program.count_cycles() + 5
    assert sum(share.bytes for share in shares) == program.count_traffic()
    # The prefetch of x is traffic of the product that uses it, whatever its own name.
    one = program.count_traffic() - found["update", "other"].bytes - 4  # `filled` writes a float
    assert mlp.bytes + found["encoder", "attention core"].bytes == one
    assert shares == sorted(shares, key=lambda share: -share.cycles)


def test_operations_are_split_by_module_and_direction():
    def loss(w, x):
        with jax.named_scope("encoder"):
            hidden = jax.jit(lambda a, b: a @ b)(x, w)
        return jax.lax.scan(lambda c, _: (c @ w, None), hidden, length=3)[0].sum()

    shapes = jnp.ones((16, 16)), jnp.ones((8, 16))
    found = costs.split_flops(jax.grad(loss), *shapes)
    product = 2 * 8 * 16 * 16
    encoder = {path: count for path, count in found.items() if "encoder" in path}
    assert sum(encoder.values()) == 2 * product  # forward, and the gradient of w
    assert {"transpose" in path for path in encoder} == {True, False}
    assert sum(found.values()) == costs.count_flops(jax.grad(loss), *shapes)
    assert sum(found.values()) - sum(encoder.values()) == 3 * 3 * product


def test_the_table_has_the_small_shares_in_one_row():
    shares = [
        Share("encoder", "MLP", 900.0, 600.0, 2e9, 450.0),
        Share("head", "MLP", 95.0, 0.0, 1e9, 40.0),
        Share("head", "norms", 3.0, 1.0, 4e9, 0.0),
        Share("losses", "other", 2.0, 2.0, 5e9, 1.0),
    ]
    assert work_shares.render(shares, clock=1e5, flop_rate=1e5).splitlines()[2:] == [
        "| encoder | MLP | 9.0 | 6.0 | 90% | 4.5 | 2.0 |",
        "| head | MLP | 0.9 | 0.0 | 10% | 0.4 | 1.0 |",
        "| the rest |  | 0.1 | 0.0 | 0% | 0.0 | 9.0 |",
    ]
