from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.torchserve.properties import (
    PropertiesError,
    Property,
    find_config_file,
    override_from_environment,
    parse_properties,
    read_properties,
    replace_references,
)


def values(text: str) -> dict[str, str]:
    return {key: found.value for key, found in parse_properties(text, "f").items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a:1", {"a": "1"}),
        ("a 1", {"a": "1"}),
        ("a\t\f1", {"a": "1"}),
        ("  a  =  1  ", {"a": "1  "}),
        ("a = = 1", {"a": "= 1"}),
        ("a : = 1", {"a": "= 1"}),
        ("a", {"a": ""}),
        ("=1", {"": "1"}),
        ("# a=1\n! b=2\n  #c=3\n\n \t\f\nd=4", {"d": "4"}),
        ("# not continued \\\na=1", {"a": "1"}),
        ("a=1\\\n   2\\\r\n\t3\\\r4", {"a": "1234"}),
        ("a=1\\\n# no comment", {"a": "1# no comment"}),
        ("a=1\\\n\nb=2", {"a": "1", "b": "2"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a=1\\", {"a": "1"}),
        ("\\\na=1", {"a": "1"}),
        ("\\\n#a\nb=1", {"b": "1"}),
        ("a=1\rb=2\r\nc=3\nd=4", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        ("a=1\nb=2\na=3", {"b": "2", "a": "3"}),
        (r"a\ b\=c\:d=1", {"a b=c:d": "1"}),
        (r"a=\t\n\r\f\q\\\"", {"a": '\t\n\r\fq\\"'}),
        (r"\u0061=\u00e9\u0041", {"a": "éA"}),
        (r"a=\ud83d\ude00", {"a": "😀"}),
        ("a\x0bb=\u00a01\u2028c", {"a\x0bb": "\u00a01\u2028c"}),
        ('m={"a": {"1.0": {\\\n  "marName": "a.mar"}}}', {"m": '{"a": {"1.0": {"marName": "a.mar"}}}'}),
        ("model_store=C:\\\\models", {"model_store": "C:\\models"}),
    ],
)
def test_reads_what_java_reads(text, expected):
    assert values(text) == expected


def test_origins_name_the_first_line_of_a_setting():
    found = parse_properties("# x\n\na=1\\\n 2\nb=3\n", "conf")
    assert found["a"] == Property("a", "12", "conf:3")
    assert found["b"].origin == "conf:5"


@pytest.mark.parametrize(
    "value", [r"\u12", r"\u12G4", r"\u", r"\ud83d", r"\ude00\ud83d", "\\u\u0660\u0660\u0660\u0660"]
)
def test_malformed_escapes_name_file_and_line(value):
    with pytest.raises(PropertiesError, match=r"^some/file:2: "):
        parse_properties(f"a=1\nb={value}\n", "some/file")


ESCAPES = {
    "\\": "\\\\",
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    "\f": "\\f",
    " ": "\\ ",
    "=": "\\=",
    ":": "\\:",
}


def escaped(text: str) -> str:
    """Write `text` as Java's Properties.store would, or simpler where that is allowed."""
    return "".join(
        ESCAPES.get(character, "\\" + character if character in "#!" else character) for character in text
    )


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(texts.filter(bool), texts), st.sampled_from(["=", ":", " ", " = ", "\t:\f"]))
def test_reads_back_what_was_written(pairs, separator):
    written = "\n".join(f"{escaped(key)}{separator}{escaped(value)}" for key, value in pairs.items())
    assert values(written) == pairs


@given(st.text(st.sampled_from("\\ab=: \t\f#!\r\nu0$é")))
def test_any_text_is_read_or_refused_with_its_place(text):
    try:
        origins = [found.origin for found in parse_properties(text, "f").values()]
    except PropertiesError as error:
        origins = [str(error)]
    assert all(origin.startswith("f:") for origin in origins)


def test_agrees_with_java(tmp_path):
    """Thousands of nasty texts, read by java.util.Properties itself where there is a JDK."""
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("needs a Java development kit")
    generator = random.Random(1)
    pieces = [
        "\\u0",
        "\\",
        "\\\n",
        "\\\r\n",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\t",
        "\f",
        "=",
        ":",
        "#",
        "!",
        "a",
        "b",
        "\\u0041",
        "\\t",
        "é",
    ]
    files = []
    for number in range(3000):
        text = "k" + "".join(generator.choices(pieces, k=generator.randint(0, 14)))
        files.append(tmp_path / str(number))
        files[-1].write_bytes(text.encode())
    oracle = Path(__file__).with_name("PropertiesOracle.java")
    answer = subprocess.run([java, oracle, *files], capture_output=True, text=True, check=True, timeout=120)
    for file, line in zip(files, answer.stdout.splitlines(), strict=True):
        status, *pairs = line.split(" ")
        expected = dict(
            tuple(bytes.fromhex(half).decode("utf-16-be") for half in pair.split("=")) for pair in pairs
        )
        text = file.read_bytes().decode()
        try:
            found = values(text)
        except PropertiesError:
            assert status == "malformed", repr(text)
            continue
        if expected.get("") == "":
            # Java makes a setting without name and value of a backslash that ends the file; nobody means one.
            del expected[""]
            found.pop("", None)
        assert (status, found) == ("ok", expected), repr(text)


def test_files_are_utf8_or_else_latin1(tmp_path):
    file = tmp_path / "config.properties"
    for content in ("\ufeffmodel_store=/modèles".encode(), "model_store=/modèles".encode("iso-8859-1")):
        file.write_bytes(content)
        assert read_properties(file)["model_store"].value == "/modèles"


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    with pytest.raises(PropertiesError, match=r"none\.properties: cannot be read: No such file"):
        read_properties(tmp_path / "none.properties")
    with pytest.raises(PropertiesError, match="cannot be read: Is a directory"):
        read_properties(tmp_path)
    monkeypatch.setattr("predictor.torchserve.properties.MAX_FILE_BYTES", 3)
    (tmp_path / "big").write_text("a=12")
    with pytest.raises(PropertiesError, match="larger than 3 bytes"):
        read_properties(tmp_path / "big")


def test_references_are_replaced_wherever_they_stand():
    found = parse_properties("a=$$HOST$$:$$PORT$$/x\nb=$PORT$ $$$$ $$\nc=$$X$$", "f")
    replaced = replace_references(found, {"HOST": r"h\1$1", "PORT": "80"})
    assert replaced["a"].value == r"h\1$1:80/x"
    assert replaced["b"].value == "$PORT$ $$$$ $$"
    assert replaced["c"].value == "$$X$$"  # TorchServe wants two characters at least


def test_a_reference_to_nothing_names_file_and_line():
    with pytest.raises(PropertiesError, match=r"^f:2: b: environment variable STORE is not set$"):
        replace_references(parse_properties("a=1\nb=$$STORE$$/x", "f"), {})


def test_the_environment_overrides_what_it_may():
    found = parse_properties("a=1\nb=2", "f")
    result = override_from_environment(
        found, {"TS_A": "3", "TS_C": "", "TS_D": "5"}, {"TS_A": "a", "TS_C": "c"}
    )
    assert result == {"a": Property("a", "3", "TS_A"), "b": found["b"], "c": Property("c", "", "TS_C")}


def test_which_file_is_read(tmp_path):
    assert find_config_file(None, {}, tmp_path) is None
    (tmp_path / "config.properties").touch()
    assert find_config_file(None, {}, tmp_path) == tmp_path / "config.properties"
    assert find_config_file(Path("mine"), {}, tmp_path) == tmp_path / "mine"
    assert find_config_file(Path("mine"), {"TS_CONFIG_FILE": "/theirs"}, tmp_path) == Path("/theirs")
