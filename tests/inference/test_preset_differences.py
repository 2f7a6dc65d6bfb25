"""Known differences of presets: every published one lists them, and runs add their own."""

import dataclasses

import pytest

from zeroseg_jax.inference.preset_differences import (
    DIFFERENCES,
    PUBLISHED_MODELS,
    check_read_out,
    find_differences,
)
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.inference.presets import get_preset

OWN = {"frozen"}


def test_every_published_preset_lists_its_differences():
    assert DIFFERENCES.keys() == PROTOCOLS.keys() - OWN == PUBLISHED_MODELS.keys()
    for sentences in DIFFERENCES.values():
        assert sentences and all(not s.endswith(".") and ";" in s or s for s in sentences)


def test_a_run_lists_its_model_and_its_overrides():
    preset = get_preset("sclip", "voc20")
    assert find_differences(preset, "voc20", "sclip") == list(DIFFERENCES["sclip"])
    changed = get_preset("sclip", "voc20", {"logit_scale": "30"})
    found = find_differences(changed, "voc20", "maskclip")
    assert "published scores under this protocol are of sclip" in found[0]
    assert found[1] == "logit_scale is 30.0, not 40.0"
    found = find_differences(preset, "imagenet_s50", "sclip")
    assert any("no released settings for imagenet_s50" in line for line in found)
    # Names of the background that the words file adds are part of the protocol.
    preset = dataclasses.replace(get_preset("sclip", "voc21"), background_words=("sky",))
    assert find_differences(preset, "voc21", "sclip") == list(DIFFERENCES["sclip"])
    assert find_differences(get_preset("frozen", "voc20"), "voc20", "scclip") == []


def test_proxyclip_is_refused_without_its_read_out():
    preset = get_preset("proxyclip", "voc20")
    check_read_out(preset, "proxy", "vit")
    with pytest.raises(ValueError, match="second tower vit and not dinov2_with_registers"):
        check_read_out(preset, "proxy", "dinov2_with_registers")
    other = get_preset("proxyclip_dinov2", "voc20")
    check_read_out(other, "proxy", "dinov2_with_registers")
    same = dataclasses.replace(other, name="proxyclip", affinity="vit")
    assert same == preset
    with pytest.raises(ValueError, match="for the read-out proxy and not for maskclip"):
        check_read_out(preset, "maskclip")
    check_read_out(get_preset("proxyclip", "voc20", {"readout": ""}), "maskclip")
    check_read_out(get_preset("sclip", "voc20"), "maskclip")
