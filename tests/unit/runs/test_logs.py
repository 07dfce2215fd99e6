"""Lines of logs, of files and of texts."""

from pathlib import Path

from hbseg.runs.logs import lines_of, lines_of_file, merged, merged_lines, new_lines

ODD = "2 \r 10%\r 20%\x0c\u2028\x85end"
"""One line of a step that draws a bar, with all that Python takes for ends of lines."""


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(f"1 a\n{ODD}\n3 \n\n", newline="")
    lines = ["1 a", ODD, "3 ", ""]

    assert lines_of(path.read_bytes().decode()) == lines
    assert list(lines_of_file(path)) == lines
    assert list(new_lines(path, {})) == lines
    assert lines_of("") == []
    assert lines_of("no end") == ["no end"]


def test_lines_of_several_ranks_are_merged_by_time_and_marked() -> None:
    texts = {"0": f"1 a\n{ODD}\n4 d\n", "1": "3 c\n", "torchrun": "5 e\n"}
    told = ["1 [0] a", f"2 [0] {ODD[2:]}", "3 [1] c", "4 [0] d", "5 [torchrun] e"]

    assert list(merged(texts)) == told
    assert list(merged_lines({name: iter(lines_of(text)) for name, text in texts.items()})) == told
    assert list(merged({"0": texts["0"]})) == ["1 a", ODD, "4 d"]


def test_following_takes_whole_lines_once(tmp_path: Path) -> None:
    path, offsets = tmp_path / "0.log", dict[Path, int]()
    assert list(new_lines(path, offsets)) == []
    with path.open("ab", buffering=0) as file:
        file.write("1 a\n2 손"[:6].encode() + b"\xec")
        assert list(new_lines(path, offsets)) == ["1 a"]
        assert list(new_lines(path, offsets)) == []
        file.write(b"\x86\x90\n3 c\n")
        assert list(new_lines(path, offsets)) == ["2 손", "3 c"]
    assert list(new_lines(path, offsets)) == []


def test_a_rank_that_prints_without_end_lets_the_others_have_a_turn(tmp_path: Path) -> None:
    path, offsets = tmp_path / "0.log", dict[Path, int]()
    path.write_bytes(b"1 a\n")
    taken = []
    for line in new_lines(path, offsets):
        taken.append(line)
        with path.open("ab") as file:
            file.write(b"2 more\n")

    assert taken == ["1 a"]
    assert list(new_lines(path, offsets)) == ["2 more"]
