"""Text becomes markup in one place, and whatever it holds comes back as text."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from mmssl.report.markup import Html, clean, element, join


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=60))
def test_any_text_comes_back_as_text_and_attribute(text, value):
    reader = Reader()
    reader.feed(element("p", text, title=value))
    reader.close()
    assert reader.tags == ["p"]
    assert reader.attributes == [("title", clean(value))]
    assert reader.text == clean(text)


def test_markup_is_kept_text_is_escaped_and_none_left_out():
    inside = element("b", "a<b")
    assert inside == "<b>a&lt;b</b>"
    assert join([inside, "<"]) == "<b>a&lt;b</b>&lt;"
    made = element("p", inside, None, 3, class_="x", aria_label='"', hidden=True, lang=None, draggable=False)
    assert made == '<p class="x" aria-label="&quot;" hidden><b>a&lt;b</b>3</p>'
    assert isinstance(made, Html)
    assert element("circle", r=2) == '<circle r="2"/>'


def test_control_characters_and_lone_surrogates_cannot_reach_the_file():
    assert clean("a\x00b\ud800c\x9fd\n") == "a\ufffdb\ufffdc\ufffdd\n"
    clean("\udfff").encode("utf-8")
