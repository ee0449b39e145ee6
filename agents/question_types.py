"""What a question asks for, by its interrogative word: who, when, how many, ...

The first interrogative word of the question decides, wherever it stands: "In what year did she say
who won?" is a `what`. "Whom" and "whose" are `who`, "how much" is `how many`. Chinese words, simplified or
traditional, go with the English ones of the same meaning, so that types can be compared between languages. A
question without any (yes or no, an order, another language) is `other`.
"""

from __future__ import annotations

import re
import unicodedata

OTHER = "other"

_PATTERNS = {
    "how many": r"\bhow\s+(?:many|much)\b|多少|(?<![茶好十])[几幾](?![乎何率内內])",
    "why": r"\bwhy\b|(?<![称稱名成作])[为為]什[么麼]|[为為因]何|[为為]啥",
    "when": r"\bwhen\b|什[么麼][时時][候间間]|何[时時年]|哪一?[年天日月]|几时|幾時",
    "where": r"\bwhere\b|什[么麼]地方|何[处處地]|哪[里裡裏儿兒]",
    "who": r"\bwho(?:m|se)?\b|[谁誰]|什[么麼]人|(?<!任)何人|哪一?[位人]",
    "which": r"\bwhich\b|哪",
    "what": r"\bwhat\b|什[么麼]|啥|(?<![任几幾如为為])何(?=[种種物事名作用])",
    "how": r"\bhow\b|怎[么麼样樣]|如何|多[久长長高大远遠深快重]",
}
"""At the same place the first of them counts."""
_WORDS = re.compile(
    "|".join(f"(?P<t{number}>{pattern})" for number, pattern in enumerate(_PATTERNS.values()))
)
_TYPES = tuple(_PATTERNS)


def interrogative(question: str) -> str:
    """The type of a question: a key of the table above, or `OTHER`."""
    text = unicodedata.normalize("NFKC", question).casefold()
    found = _WORDS.search(text)
    return OTHER if found is None else _TYPES[int(str(found.lastgroup)[1:])]
