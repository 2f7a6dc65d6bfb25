"""Numbers read from the text of compiled programs, worked out by hand."""

from zeroseg_jax.training.plan.program import Collective, Kernel, Program

COLLECTIVES = """HloModule test

%body.1 (param: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %ar = f32[8,4]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%sum
}

ENTRY %main.2 (p0: f32[8,4]) -> f32[8,4] {
  %w = (s32[], f32[8,4]) while(%t), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  %ag = bf16[16,4]{1,0} all-gather(%y), channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}
  %again = bf16[16,4]{1,0} all-gather(%y), channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}
  %rs = f32[2,4]{1,0} reduce-scatter(%z), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a','b'}, dimensions={0}
  %tuple = (f32[10], bf16[6]) all-reduce(%u, %v), channel_id=4, replica_groups={}, to_apply=%sum
}
"""  # noqa: E501
SCHEDULE = """HloModule scheduled

%sliced (p.0: bf16[9,100,128]) -> bf16[1,100,128] {
  %p.0 = bf16[9,100,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %part = bf16[1,100,128]{2,1,0:T(8,128)(2,1)} dynamic-slice(%p.0, %zero, %zero, %zero), dynamic_slice_sizes={1,100,128}
}

%condition (state: (s32[], bf16[9,100,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  %state = (s32[]{:T(128)}, bf16[9,100,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  ROOT %less = pred[]{:T(512)} compare(%state, %limit), direction=LT
}

%body (state: (s32[], bf16[9,100,128])) -> (s32[], bf16[9,100,128]) {
  %state = (s32[]{:T(128)}, bf16[9,100,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %all = bf16[9,100,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %one = bf16[1,100,128]{2,1,0:T(8,128)(2,1)S(1)} fusion(%all), kind=kLoop, calls=%sliced, backend_config={"estimated_cycles":"100"}
  %mix = bf16[1,100,128]{2,1,0:T(8,128)(2,1)} custom-call(%one, %one, %one), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/attention_forward_d64/pallas_call"}
}

ENTRY %main (x: bf16[9,100,128]) -> bf16[9,100,128] {
  %x = bf16[9,100,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %loop = (s32[]{:T(128)}, bf16[9,100,128]{2,1,0:T(8,128)(2,1)}) while(%x), condition=%condition, body=%body
  %start = (bf16[9,100,128]{2,1,0:T(8,128)(2,1)S(1)}, bf16[9,100,128]{2,1,0:T(8,128)(2,1)}, u32[]) copy-start(%x)
  %done = bf16[9,100,128]{2,1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  ROOT %sum = f32[9,100,128]{2,1,0:T(8,128)} fusion(%done, %x), kind=kLoop, calls=%none, backend_config={"estimated_cycles":"7"}
}
"""  # noqa: E501
# 100 rows are padded to 104, the tile's 8 rows of 128.
ROWS = 104 * 128 * 2


def test_cycles_count_as_often_as_a_loop_runs():
    assert Program(SCHEDULE, 1).count_cycles() == 3 * 100 + 7


def test_cycles_are_split_by_the_names_of_differentiation():
    """A forward and a backward product, an update and a copy without a name, of known cycles."""
    names = {"jvp(Student)/dot": 5, "transpose(jvp(Student))/dot": 11, "mul": 17}
    lines = [
        f"  %a{i} = f32[8,128]{{1,0:T(8,128)}} fusion(%x), kind=kLoop, calls=%none, "
        f'metadata={{op_name="jit(_step)/{name}"}}, backend_config={{"estimated_cycles":"{n}"}}'
        for i, (name, n) in enumerate(names.items())
    ]
    text = SCHEDULE.replace("  %loop =", "\n".join([*lines, "  %loop ="]))
    assert Program(text, 1).split_cycles() == {
        "forward": 5, "backward": 11, "update": 17, "copies": 307,
    }  # fmt: skip


def test_traffic_is_what_passes_through_hbm():
    # A round reads one of nine slices into VMEM; the kernel reads VMEM and writes HBM.
    rounds = 3 * (ROWS + ROWS)
    copied, summed = 9 * ROWS, 9 * ROWS + 9 * 2 * ROWS  # x is read again, the sum is float32
    assert Program(SCHEDULE, 1).count_traffic() == rounds + copied + summed


def test_kernels_are_listed_with_shape_and_calls():
    assert Program(SCHEDULE, 1).list_kernels() == [Kernel(False, (1, 100, 128), 64, 3)]


def test_collectives_count_by_kind_with_groups_loops_and_channels():
    found = Program(COLLECTIVES, 8).count_collectives()
    assert set(found) == {"all-reduce", "all-gather", "reduce-scatter"}
    ring = 2 * 1 / 2 * 8 * 4 * 4 * 5 + 2 * 7 / 8 * (10 * 4 + 6 * 2)
    assert found["all-reduce"] == Collective(6, ring)
    assert found["all-gather"] == Collective(1, 3 / 4 * 16 * 4 * 2)
    assert found["reduce-scatter"] == Collective(1, 7 / 8 * 8 * 2 * 4 * 4)
