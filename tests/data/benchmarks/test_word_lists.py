"""Word lists: checksums of the public ones, lines for every class, errors of malformed ones."""

import hashlib

import pytest

from zeroseg_jax.data.benchmarks.word_lists import (
    WORDS,
    load_imagenet_words,
    load_words,
    read_words,
)

CLASSES = {"voc21": 21, "voc20": 20, "context60": 60, "context59": 59, "coco_object": 81,
           "coco_stuff171": 171, "coco_stuff27": 27, "ade150": 150, "cityscapes19": 19}  # fmt: skip
# Class names of other projects, without a list of our own.
FOREIGN = {"ade847": 847, "context459": 459, "bdd100k": 19, "dark_zurich": 20, "foodseg103": 104,
           "atlantis": 56, "dram": 12, "suim": 8, "pst900": 5, "corrosion_cs": 4, "deepcrack": 2,
           "chase_db1": 2, "kvasir_instrument": 2, "zerowaste": 5, "cub_200": 201,
           "cwfid": 3}  # fmt: skip

# SHA-256 of the lines "name; name" of the published list. The lists without an entry are own.
PUBLIC = {
    # MESS
    "bdd100k": "5995d02d6c574d515fa02371c8c2b5367f55cba8a732fed0567427c093f95adf",
    "dark_zurich": "a5e64827bd673d29ae7214482c56bb664f1b06b581662066023cdccfaffaa5bd",
    "foodseg103": "acd3b9264d85a235118aed9accdbe29095fdd9125f4270bf30d82cdf288fef32",
    "atlantis": "eef1c2f7ebf382263fa686b5f73aa3115decd33e3eff0e2099d75d54a4866e0f",
    "dram": "af579a891695b43f6185b623448be8d99bbb9dee08e5f0d96979cf539cba1b1b",
    "suim": "3eb45b1fc57b8392691dc225ffa62a94d6aa760e24059b9683745b432425560b",
    "pst900": "9753670f05ff95e900742bb4d264ff0580278ef18ed3b7d2bcb998746356e3fd",
    "corrosion_cs": "088d5fd5433baa9f9947cd137a7fbaffff2a0399ba5c0ef99b96ea518812cd0f",
    "deepcrack": "ffc61630489c5c58d479ac4d320f2ff7f8208ad5c6f4df46971f3a36440af5e9",
    "chase_db1": "3c331815444196771ebce5a8a4387a6cef716d65eb610b9cabb55d3cde179b20",
    "kvasir_instrument": "dacfc6c78c036d5c66a4985a4f95243914b5c8ac19565b57f208eb81e4735ccb",
    "zerowaste": "6348e0eb8d6931cd9fc57ce7d1c7bf4ef05041d89fae7915b8a19538b1b1a9ab",
    "cub_200": "5603328c784e381d4a0201ccb2e5ac184a65f810ca10a0fae556e0818027eb3f",
    "cwfid": "63b3239cd6ec3faaaf40b3db4855db8e1300fabe40722932ed7ecb9d4e70d2e0",
    # ProxyCLIP
    "ade847": "5d6612d2a2f9778fc7270baf0db7bc800b054d1aa1f107e323197e8c54e33e26",
    "context459": "c9fe8ff7083d2572021691666a700755d8f4e1c634585ba9919a3f3a2c834538",
    # MaskCLIP, TIPS
    "ade150": "f9dbd8a75a0722c971d8c82db76dc205e06cb422d98153f4e5bbf90408ef5438",
    # MaskCLIP
    "voc20.maskclip": "8fd0292c85fe3efe16a05dbf20cd9574d9558455b507fdfd5bec9d692c6bff0a",
    "context59.maskclip": "ab420cdb1d0bae0b3ff1ac2c9a52023027d482f2be8588c4d8bf48b0b7d47f54",
    "coco_stuff171.maskclip": "b267b56ce2b167eb9859c65d58ad15f6bfd4af691ff703dfbbade088989d485c",
    # SCLIP and its successors
    "ade150.sclip": "e53ded02c488bdb903ef000a2d207e4ac4f2bb4502a72572e4aab7c2504aef3a",
    # mmsegmentation, MaskCLIP
    "cityscapes19": "5995d02d6c574d515fa02371c8c2b5367f55cba8a732fed0567427c093f95adf",
    # SCLIP and its successors
    "cityscapes19.sclip": "6f6782fc1bf92bfd9f5562192e92045e0e093870e613f387f6c98fc66d4ceba4",
    # GroupViT, ClearCLIP
    "coco_object": "1f17b53017e442257cad2025ab981ddeb28d048af00dcac8ae810bc25a6a9a77",
    # ProxyCLIP
    "coco_object.proxyclip": "87b6d3e1d3adf5202f4fe5a2a939cfc62224065f3a8e44a8f64fe1a81b751dc6",
    # SCLIP and its successors
    "coco_object.sclip": "cfcc0eab9854dab6e5b8ec595beafa5c0dde2df85712ca57626a26ad382fa4e7",
    # SCLIP and its successors
    "coco_stuff171.sclip": "fb98709b9ab1baff4fd930bac4a77772a0458c7d534911de545f9a4081e14a3e",
    # mmsegmentation
    "coco_stuff171.tcl": "8ea44449837dceb30923012b201fe0152adc612160d0d040c9cfcd77e95f6801",
    # mmsegmentation, SCLIP and its successors
    "context59.sclip": "cd808465f06a16169edc25580073f0eda347e64f06cc1c2e24acd0b237f6497d",
    # GroupViT
    "context60.groupvit": "be95f2a33d51dae392e9098d6fdc76322504ffd3457e73cec0342dc2d778c9b0",
    # mmsegmentation, SCLIP and its successors
    "context60.sclip": "e29ff1a0eaea71eb3e090f0ff6abdbcc592fa17f74b4a17ecc6d33c5a9daea4e",
    # ClearCLIP, ProxyCLIP
    "voc20.clearclip": "6b9a85ffb907e34ac920d704a520b45e1424bf96796ca7de5b1823ee202db119",
    # SCLIP and its successors
    "voc20.sclip": "07866c1c093973bf0552c228cf6998a845cb9ecd550909264b22925b4adbda74",
    # TCL, mmsegmentation
    "voc20.tcl": "7d877f185c807bc51b4cfb4f4202fc0b4e1c6724b782ba245fe36f8d254f0ad7",
    # ClearCLIP
    "voc21.clearclip": "265d9ede93be451d724981c5ffde13a8eb3082674e98021aa8d5445f81f4498a",
    # GroupViT
    "voc21.groupvit": "97741c26926f4fe63900ee1b5b4e593654d781741ec2e84d1afb822569a4a8f7",
    # ProxyCLIP
    "voc21.proxyclip": "6a194e9134d44459bf8b86ba89a9cf06242848051e04d130011c017bca3e3c05",
    # SCLIP, NACLIP, SC-CLIP
    "voc21.sclip": "afe97de53ac9aaa4200ba5610f3d7781a02beaddcfec1398baec9ec81fdfb370",
    # mmsegmentation
    "voc21.tcl": "301e5e4e2a9a7ab6bfd6c7e2b1d381d4dd465ddedf787b4b4ed802b3366deb6c",
}
OWN = {"voc21", "voc20", "context60", "context59", "coco_stuff171", "coco_stuff27", "imagenet1k"}


def test_published_lists_are_exact():
    assert {path.stem for path in WORDS.glob("*.txt")} == PUBLIC.keys() | OWN
    for name, digest in PUBLIC.items():
        text = "\n".join("; ".join(row) for row in load_words(name))
        assert hashlib.sha256(text.encode()).hexdigest() == digest, name


def test_bad_words_files(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(ValueError, match="missing"):
        read_words(path)
    path.write_text("")
    with pytest.raises(ValueError, match="empty"):
        read_words(path)
    path.write_bytes("kätzchen".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_words(path)
    path.write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="2 lines, but there are 21 classes"):
        read_words(path, classes=21)
    with pytest.raises(ValueError, match="voc21.sclip"):
        load_words("voc21.sclap")


def test_shipped_words_have_a_line_for_every_class():
    stems = {path.stem for path in WORDS.glob("*.txt")} - {"imagenet1k"}
    assert {stem.split(".")[0] for stem in stems} == {*CLASSES, *FOREIGN}
    for stem in stems:
        assert len(load_words(stem)) == {**CLASSES, **FOREIGN}[stem.split(".")[0]], stem
    for name, classes in CLASSES.items():  # the project's own lists have no word twice
        rows = read_words(WORDS / f"{name}.txt", classes=classes)
        assert all(word == word.strip() and "  " not in word for row in rows for word in row)


def test_published_words():
    counts = {name: sum(map(len, load_words(name))) for name in (
        "voc21.sclip", "voc20.sclip", "coco_object.sclip", "voc21.proxyclip",
        "coco_object.proxyclip", "voc21.clearclip", "context60.sclip", "ade150.sclip")}  # fmt: skip
    assert counts == {"voc21.sclip": 56, "voc20.sclip": 30, "coco_object.sclip": 113,
                      "voc21.proxyclip": 46, "coco_object.proxyclip": 97, "voc21.clearclip": 21,
                      "context60.sclip": 60, "ade150.sclip": 150}  # fmt: skip
    groupvit = load_words("voc21.groupvit")
    assert [groupvit[i][0] for i in (11, 16, 20)] == ["table", "plant", "monitor"]
    names = load_imagenet_words()
    assert len(names) == 1000 and len({row[0].casefold() for row in names.values()}) == 1000
    assert names["n02012849"][0] != names["n03126707"][0]  # two cranes
