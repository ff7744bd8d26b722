from libernet.fs.troubles import MAX_TOLD, Troubles


def test_all_are_counted_and_the_first_told() -> None:
    troubles, more = Troubles(), Troubles()
    for number in range(MAX_TOLD - 1):
        troubles.note(b"%d" % number, "gone")
    for path in (b"x\xff", b"y", b"z"):
        more.note(path, "rotten")
    troubles.note(b"0", "rotten")
    troubles.add(more)
    assert troubles.count == MAX_TOLD + 2
    assert len(troubles.texts()) == MAX_TOLD
    assert troubles.texts()["0"] == troubles.texts()["x\udcff"] == "rotten"
    assert b"y" not in troubles.told


def test_what_others_counted_without_telling_is_counted() -> None:
    troubles, more = Troubles(), Troubles()
    for number in range(MAX_TOLD + 5):
        more.note(b"%d" % number, "gone")
    troubles.add(more)
    assert (troubles.count, len(troubles.told)) == (MAX_TOLD + 5, MAX_TOLD)
