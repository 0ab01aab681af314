"""Names on the hub: what they mean, and what is none."""

import pytest

from alora_gguf.errors import HubError
from alora_gguf.hub.hf_name import HubName, is_hub_name, parse_hub_name
from alora_gguf.hub.names import adapter_name

FOUND = {
    "hf:ibm-granite/granite-4.1-3b-GGUF": HubName("ibm-granite/granite-4.1-3b-GGUF"),
    "hf:ibm-granite/granite-4.1-3b-GGUF:Q4_K_M": HubName("ibm-granite/granite-4.1-3b-GGUF", quant="Q4_K_M"),
    "hf:o/r:UD-Q4_K_XL@v1.0": HubName("o/r", quant="UD-Q4_K_XL", revision="v1.0"),
    "hf:ibm-granite/granitelib-rag-r1.0/query_rewrite": HubName("ibm-granite/granitelib-rag-r1.0", "query_rewrite"),
    "hf:o/r/requirement-check@refs/pr/3": HubName("o/r", "requirement-check", revision="refs/pr/3"),
    "hf:o/r@a--b": HubName("o/r", revision="a--b"),
}


@pytest.mark.parametrize("text", FOUND)
def test_what_a_name_means_and_that_it_reads_back(text):
    assert parse_hub_name(text) == FOUND[text] and str(FOUND[text]) == text


@pytest.mark.parametrize("text", [
    "hf:", "hf:one", "hf:/o/r", "hf:o/r/", "hf:o/r/n/m", "hf:o/..", "hf:../r", "hf:o/r/..", "hf:o/r/../x", "hf:o/r/n:Q8_0", "hf:o/r:", "hf:o/r@",
    "hf:o/r@../x", "hf:o/r@a/../b", "hf:o/r@/a", "hf:o/r:a/b", "hf:o--p/r", "hf:o/r\n", "hf:o/r x", "hf:o/r?x=1", "hf:o/r\x1b[2J", "hf:https://h/o/r", "hf:ö/r",
])  # fmt: skip
def test_what_is_no_name_is_one_line_with_the_forms(text):
    with pytest.raises(HubError) as e:
        parse_hub_name(text)
    assert "expected hf:owner/repo" in str(e.value) and str(e.value).isprintable()


def test_a_path_is_no_name_on_the_hub(tmp_path):
    assert not any(map(is_hub_name, (tmp_path, "./hf:o/r", "o/r", "HF:o/r")))


def test_an_adapter_is_called_as_the_name_says():
    assert adapter_name("hf:o/r/query_rewrite@v1.0") == "query_rewrite"
    assert adapter_name("hf:o/certainty-v1.0") == "certainty-v1.0"
