"""The pages in a real Chromium: what people do with them, and what must never happen."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import direct
from support.models import SAMPLES, link_sample, make_model
from support.server import Server

pytest.importorskip("selenium", reason="selenium is not installed (pip install selenium)")
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from predictor.web.assets import swagger_file

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no browser: apt-get install chromium chromium-driver, or the like, makes these tests run",
)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage "
    "--disable-background-networking --disable-component-update --disable-sync"
)
HOSTILE = "<img src=x onerror=window.hacked=1>"
SECONDS = 60
PICTURES = sorted((SAMPLES / "digits" / "examples").iterdir())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The samples, a model with a handler of its own, and one whose every text is an attack."""
    store = tmp_path_factory.mktemp("pages")
    missing = [name for name in ("digits", "wine", "docstrings") if not link_sample(store, name)]
    if missing:
        pytest.skip(f"no trained weights for {', '.join(missing)}")
    make_model(store, "echo", "module_level")
    make_hostile(store)
    with Server(store) as running:
        yield running


def make_hostile(store: Path) -> None:
    """Make a copy of `wine` with markup for its name, description, labels, and the name of its example."""
    folder = store / "hostile"
    shutil.copytree(store / "wine", folder)
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    described = json.loads(manifest.read_text())
    described["model"]["modelName"] = HOSTILE
    manifest.write_text(json.dumps(described))
    config = folder / "model-config.yaml"
    told = yaml.safe_load(config.read_text())
    told["signature"]["description"] = "<script>window.hacked=2</script><b>bold</b>"
    told["signature"]["classes"] = ["<i onclick=window.hacked=3>A</i>", "'\" &amp;", "<svg onload=hacked=4>"]
    told["signature"]["inputs"][0]["description"] = HOSTILE
    config.write_text(yaml.safe_dump(told))
    (folder / "examples" / "wine.json").rename(folder / "examples" / f"{HOSTILE}.json")


class Page:
    """A browser looking at `/ui`.

    Attributes:
        driver: Selenium's.
        url: of the server, without a slash at the end.
    """

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, model: str = "", width: int = 1200) -> Page:
        """Load the page anew, with `model` chosen, `width` CSS pixels wide."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/ui#{model}")
        self.until(lambda: self.find("main").is_displayed())
        return self

    def find(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.find(name).text)

    def until(self, condition: Callable[[], Any]) -> Any:
        try:
            return WebDriverWait(self.driver, SECONDS, 0.05).until(lambda _: condition())
        except TimeoutException:
            seen = self.driver.find_element(By.TAG_NAME, "body").text
            return pytest.fail(f"waited in vain; the console: {self.console()}; the page:\n{seen[:4000]}")

    def choose(self, model: str) -> None:
        Select(self.find("model")).select_by_value(model)
        self.until(
            lambda: self.driver.execute_script("return decodeURIComponent(location.hash)") == f"#{model}"
        )
        self.until(lambda: self.text("fields"))

    def predict(self) -> str:
        """Press the button and return the label that is shown."""
        self.find("predict").click()
        return self.answer()

    def answer(self) -> str:
        self.until(lambda: self.text("predict") == "Predict" and self.find("details").is_displayed())
        return str(self.driver.find_element(By.CSS_SELECTOR, "#summary strong").text)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Return what the browser has complained about since it was last asked."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> set[str]:
        """Return the addresses that have been asked for since this was last called."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return {event["request"]["url"] for event in sent}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, pages: Server) -> Iterator[Page]:
    """A page that has not complained by the end of the test, nor asked anyone but our server."""
    made = Page(browser, f"http://127.0.0.1:{pages.port}")
    made.console()
    made.requests()
    yield made
    assert made.console() == []
    foreign = {url for url in made.requests() if not url.startswith((made.url, "about:", "data:", "blob:"))}
    assert foreign == set()


def label(server: Server, path: str, body: object, method: str = "POST") -> str:
    response = server.send(method, path, body=body)
    assert response.status == 200, response
    return str(response.json()["label"])


# The samples


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_from_a_file(page: Page, pages: Server, picture: Path) -> None:
    page.open("digits")
    page.find("input-image").send_keys(str(picture))
    shown = page.predict()
    assert shown == label(pages, "/predictions/digits", picture.read_bytes(), "PUT")
    assert picture.name in page.text("curl")
    best = page.driver.find_element(By.CSS_SELECTOR, "#bars .best")
    assert best.text.split()[0] == shown
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#bars li")) == 10
    assert json.loads(page.text("raw"))["label"] == shown
    assert page.text("timing").startswith("Status 200")
    assert " ms " in page.text("timing")


def test_a_picture_of_the_examples(page: Page, pages: Server) -> None:
    page.open("digits")
    buttons = page.driver.find_elements(By.CSS_SELECTOR, "#examples button")
    assert [button.text for button in buttons] == [path.name for path in PICTURES]
    for button, path in zip(buttons, PICTURES, strict=True):
        button.click()
        page.until(lambda path=path: path.name in page.text("fields"))
        assert page.predict() == label(pages, "/predictions/digits", path.read_bytes(), "PUT")


def test_a_picture_that_is_dropped(page: Page) -> None:
    page.open("digits")
    path = next(path for path in PICTURES if path.stem == "5")
    drop = """
        const bytes = Uint8Array.from(atob(arguments[0]), (char) => char.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "it's.png"));
        const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
        document.querySelector(".stage").dispatchEvent(event);
    """
    page.run(drop, base64.b64encode(path.read_bytes()).decode())
    assert page.predict() == "5"
    assert page.text("curl").startswith("curl -T 'it'\\''s.png' http")


def test_a_drawing(page: Page, pages: Server) -> None:
    page.open("digits")
    canvas = page.driver.find_element(By.CSS_SELECTOR, "canvas")
    stroke = (
        ActionChains(page.driver, duration=20).move_to_element_with_offset(canvas, 0, -70).click_and_hold()
    )
    for _ in range(10):
        stroke.move_by_offset(0, 14)
    stroke.release().perform()
    shown = page.predict()
    assert "Your drawing" in page.text("fields")
    drawn = base64.b64decode(page.run("return arguments[0].toDataURL('image/png').split(',')[1]", canvas))
    assert shown == label(pages, "/predictions/digits", drawn, "PUT") == "1"
    assert "-T drawing.png" in page.text("curl")
    saved = page.driver.find_element(By.LINK_TEXT, "Save it")
    assert saved.get_attribute("download") == "drawing.png"
    assert str(saved.get_attribute("href")).startswith("blob:")


def test_values(page: Page, pages: Server) -> None:
    page.open("wine")
    wine = direct.wine_example()
    for name, value in wine.items():
        assert float(page.find(f"input-{name}").get_attribute("value") or "nan") == value
    assert page.predict() == label(pages, "/predict/wine", wine) == "cultivar_0"
    other = wine | {"proline": 300.0, "flavanoids": 0.5, "color_intensity": 9.0, "hue": 0.6, "alcohol": 12.5}
    for name in set(other) - {name for name in wine if wine[name] == other[name]}:
        page.find(f"input-{name}").clear()
        page.find(f"input-{name}").send_keys(str(other[name]))
    shown = page.predict()
    assert shown == label(pages, "/predict/wine", other) != "cultivar_0"


def test_text(page: Page, pages: Server) -> None:
    page.open()
    page.choose("docstrings")
    page.find("input-text").clear()
    sentence = "It's \"quoted\" \\ and open files are closed when the stream's end is reached."
    page.find("input-text").send_keys(sentence)
    assert page.predict() == label(pages, "/predict/docstrings", {"text": sentence})


def test_the_curl_line_does_the_same(page: Page) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    page.open("docstrings")
    page.find("input-text").send_keys(" It's 'quoted', $HOME `id` \\ \n and on two lines.")
    page.predict()
    command = page.run("return document.getElementById('curl').textContent")
    said = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, check=True).stdout
    assert json.loads(said) == json.loads(page.text("raw"))


def test_a_model_that_declares_nothing(page: Page) -> None:
    page.open("echo")
    assert "declares no inputs" in page.text("fields")
    Select(page.find("kind")).select_by_visible_text("File")
    picture = PICTURES[0]
    page.find("file").send_keys(str(picture))
    page.find("predict").click()
    page.until(lambda: page.find("details").is_displayed())
    assert page.text("timing").startswith("Status 200")
    assert page.text("summary") == "Answered; the answer is below."


# Errors


def test_an_error_is_shown_as_the_server_says_it(page: Page, pages: Server) -> None:
    page.open("wine")
    page.find("input-ash").clear()
    page.find("predict").click()
    page.until(lambda: page.find("error").is_displayed())
    assert page.text("error") == "Status 400 Bad Request\nMissing required input: 'ash'"
    assert page.find("error").get_attribute("role") == "alert"
    assert json.loads(page.text("raw")) == {"detail": "Missing required input: 'ash'"}
    (complaint,) = page.console()
    assert "400 (Bad Request)" in complaint
    page.driver.find_element(By.CSS_SELECTOR, "#examples button").click()
    assert page.predict() == "cultivar_0"
    assert not page.find("error").is_displayed()


def test_nothing_to_send(page: Page) -> None:
    page.open("digits")
    page.find("predict").click()
    page.until(lambda: page.find("error").is_displayed())
    assert "choose one" in page.text("error")


@pytest.mark.parametrize("name", ["%zz", "%", "%E0%A4%A", "unknown"])
def test_an_address_that_names_no_model_shows_one_all_the_same(page: Page, name: str) -> None:
    page.open(name)
    page.until(lambda: page.text("fields"))
    assert not page.find("failure").is_displayed()
    page.open("wine")
    page.until(lambda: page.text("fields"))
    page.run("location.hash = arguments[0]", name)
    page.until(lambda: page.run("return location.hash") == "#wine")
    assert page.predict(), "the page goes on working"


def test_a_server_that_has_gone(page: Page) -> None:
    page.open("docstrings")
    page.driver.execute_cdp_cmd("Network.enable", {})
    conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
    page.find("predict").click()
    page.until(lambda: page.find("error").is_displayed())
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions | {"offline": False})
    assert page.text("error").startswith("The server did not answer")
    assert any("ERR_INTERNET_DISCONNECTED" in message for message in page.console())
    assert page.predict() == "concurrency"


# Attacks


def test_markup_in_names_is_shown_and_not_run(page: Page) -> None:
    page.open()
    page.choose(HOSTILE)
    shown = page.predict()
    assert shown == "<i onclick=window.hacked=3>A</i>"
    assert page.text("description") == "<script>window.hacked=2</script><b>bold</b>"
    assert f"{HOSTILE}.json" in page.text("examples")
    assert HOSTILE in page.text("fields")
    page.driver.find_element(By.CSS_SELECTOR, "#summary strong").click()
    assert page.run("return window.hacked") is None
    assert page.run("return document.querySelectorAll('main script, main i, main b, main svg').length") == 0


def test_the_policy_stops_what_is_injected(page: Page) -> None:
    page.open()
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=window.hacked=1>')")
    page.run("document.body.append(Object.assign(document.createElement('script'), { text: 'hacked = 2' }))")
    complaints: list[str] = []
    page.until(lambda: complaints.extend(page.console()) or len(complaints) >= 2)
    assert all("Content Security Policy" in message for message in complaints), complaints
    assert page.run("return window.hacked") is None


# For everyone


def test_with_the_keyboard_alone(page: Page) -> None:
    page.open("digits")
    keys = lambda *pressed: ActionChains(page.driver).send_keys(*pressed).perform()  # noqa: E731
    focused = lambda: page.driver.switch_to.active_element  # noqa: E731
    page.run("document.activeElement.blur()")
    keys(Keys.TAB)
    assert focused().text == "API"
    keys(Keys.TAB)
    assert focused().get_attribute("id") == "model"
    keys("wine")
    page.until(lambda: page.driver.find_elements(By.ID, "input-alcohol"))
    keys(Keys.TAB)
    assert focused().get_attribute("id") == "input-alcohol"
    outline = "const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth"
    for _ in range(13):
        assert page.run(outline) == "solid3px"
        keys(Keys.TAB)
    assert focused().text == "wine.json"
    keys(Keys.TAB)
    assert focused().text == "Predict"
    keys(Keys.ENTER)
    assert page.answer() == "cultivar_0"
    assert focused().text == "Predict", "the focus stays where it was"
    order = []
    for _ in range(6):
        keys(Keys.TAB)
        order.append(focused().get_attribute("id"))
    assert order == ["target", "method", "explain", "copy", "curl", "raw"]


def test_the_file_button_takes_the_focus(page: Page) -> None:
    page.open("digits")
    page.run("document.getElementById('model').focus()")
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    assert page.driver.switch_to.active_element.get_attribute("id") == "input-image"
    look = "return getComputedStyle(document.querySelector('label.button')).outlineStyle"
    assert page.run(look) == "solid"


def _tree(page: Page) -> list[tuple[str, str]]:
    """Return role and name of what a screen reader meets."""
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]


@pytest.mark.parametrize("model", ["digits", "wine", "docstrings", "echo"])
def test_everything_has_a_name(page: Page, model: str) -> None:
    page.open(model)
    if model in ("wine", "docstrings"):
        page.predict()
    tree = _tree(page)
    controls = {"textbox", "spinbutton", "combobox", "button", "link", "checkbox", "img", "image", "region"}
    nameless = [role for role, name in tree if role in controls and not name.strip()]
    assert nameless == []
    roles = [role for role, _ in tree]
    assert roles.count("main") == 1
    assert {"banner", "navigation", "status"} <= set(roles)
    assert ("list", "Probabilities") in tree or model == "echo"
    assert ("heading", "Try a model") in tree
    assert page.run("return document.documentElement.lang") == "en"
    ids = page.run("return [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    levels = page.run("return [...document.querySelectorAll('h1,h2,h3')].map((element) => element.tagName)")
    assert levels[:2] == ["H1", "H2"]
    for attribute in ("aria-describedby", "aria-labelledby"):
        pointing = page.driver.find_elements(By.CSS_SELECTOR, f"[{attribute}]")
        assert {element.get_attribute(attribute) for element in pointing} <= set(ids)


@pytest.mark.parametrize("model", ["digits", "wine", "docstrings", "echo", HOSTILE])
@pytest.mark.parametrize("width", [320, 700, 1200])
def test_nothing_is_cut_off(page: Page, model: str, width: int) -> None:
    page.open(model, width)
    if model not in ("digits", "echo"):
        page.predict()
    assert page.run("return document.documentElement.scrollWidth") <= width
    cut = """
        const inside = [...document.querySelectorAll("main *")].filter((element) => element.offsetParent);
        return inside.filter((element) => !element.closest("pre, .stage, .unseen, textarea"))
          .filter((element) => element.getBoundingClientRect().right > innerWidth)
          .map((element) => element.outerHTML.slice(0, 80));
    """
    assert page.run(cut) == []


@pytest.mark.parametrize("width", [320, 1200])
def test_nothing_jumps_while_the_page_loads(page: Page, width: int) -> None:
    page.open("wine", width)
    shifts = """
        const done = arguments[0];
        new PerformanceObserver((list) => done(list.getEntries().map((entry) => entry.value)))
          .observe({ type: "layout-shift", buffered: true });
        setTimeout(() => done([]), 300);
    """
    assert sum(page.driver.execute_async_script(shifts)) < 0.01


# Explanations


def explain(page: Page, **choices: str) -> None:
    """Press the button, after choosing in the lists whose ids are given, and wait for the explanation."""
    for name, value in choices.items():
        Select(page.find(name)).select_by_value(value)
    page.find("explain").click()
    page.until(lambda: page.text("explain") == "Explain" and page.find("explanation").is_displayed())


def bars(page: Page) -> dict[str, float]:
    rows = page.driver.find_elements(By.CSS_SELECTOR, "#figures .features li")
    cells = [[cell.text for cell in row.find_elements(By.XPATH, "./span")] for row in rows]
    return {name.split("\n")[0]: float(value.replace("\N{MINUS SIGN}", "-")) for name, _, value in cells}


def test_a_picture_is_explained(page: Page) -> None:
    page.open("digits")
    page.find("input-image").send_keys(str(next(path for path in PICTURES if path.stem == "3")))
    explain(page)
    assert page.driver.find_element(By.CSS_SELECTOR, "#summary strong").text == "3", "predicted on the way"
    assert page.text("question").startswith("Why '3' (9")
    look = """
        const canvas = document.querySelector("#figures canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let [red, blue] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
          red += data[i] > data[i + 2] + 40;
          blue += data[i + 2] > data[i] + 40;
        }
        return [canvas.width, red, blue, canvas.getAttribute("aria-label")];
    """
    width, red, blue, label = page.run(look)
    assert width == 336
    assert red > 1000
    assert blue > 100
    assert label == "image with the parts marked that speak for and against '3'"
    page.run("document.querySelector('#figures canvas').remove()")
    explain(page, target="8", method="grad_cam")
    assert page.text("question").startswith("What speaks for '8'? The answer is '3' (9")
    assert page.run(look)[3].endswith("'8'")
    assert '"method":"grad_cam","target":8' in page.text("curl")


def test_the_columns_of_a_table_are_explained(page: Page, pages: Server) -> None:
    page.open("wine")
    explain(page, method="shapley_exact", target="1")
    shown = bars(page)
    row = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
    wish = {"instances": [row], "explain": {"method": "shapley_exact", "target": 1}}
    (answer,) = pages.post("/v1/models/wine:explain", wish).json()["explanations"]
    features = sorted(answer["features"], key=lambda feature: -abs(feature["attribution"]))[:20]
    assert list(shown) == [feature["name"] for feature in features]
    assert list(shown.values()) == pytest.approx([feature["attribution"] for feature in features], rel=1e-3)
    assert "13.87 instead of 12.98" in page.text("figures")
    assert page.text("timing").startswith("Status 200")


def test_the_words_of_a_text_are_explained(page: Page) -> None:
    page.open("docstrings")
    area = page.find("input-text")
    area.clear()
    area.send_keys("\N{WINE GLASS} <b>Wait</b> for the\nlock")
    explain(page)
    text = page.driver.find_element(By.CSS_SELECTOR, "#figures .words")
    assert text.get_attribute("textContent") == "\N{WINE GLASS} <b>Wait</b> for the\nlock"
    marks = [mark.text for mark in text.find_elements(By.TAG_NAME, "mark")]
    assert marks[-1] == "lock"
    assert "Wait" in marks
    assert bars(page)["lock"] > 0


def test_an_explanation_that_is_refused_is_said(page: Page) -> None:
    page.open("docstrings")
    area = page.find("input-text")
    area.clear()
    area.send_keys("lock " * 30)
    page.predict()
    Select(page.find("method")).select_by_value("shapley_exact")
    page.find("explain").click()
    page.until(lambda: page.find("why-error").is_displayed())
    assert "this example has 30" in page.text("why-error")
    assert not page.find("explanation").is_displayed()
    page.console()  # the browser notes every 400


def test_an_explanation_goes_with_its_input(page: Page) -> None:
    page.open("wine")
    explain(page)
    page.find("input-alcohol").send_keys("1")
    explain(page)
    assert "13.871 instead of" not in page.text("question")
    assert "alcohol\n13.87 instead" in page.text("figures"), "13.871 to four digits"
    assert '"alcohol": 13.871' in page.text("curl")
    page.choose("docstrings")
    assert not page.find("explanation").is_displayed()
    page.choose("echo")
    assert not page.find("why").is_displayed(), "its handler does not tell how it explains"


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("model", ["wine", "docstrings", HOSTILE])
def test_an_explanation_fits_and_has_names(page: Page, model: str, width: int) -> None:
    page.open(model, width)
    explain(page)
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert ("list", "What each part contributed, strongest first") in _tree(page)
    assert page.run("return window.hacked") is None
    described = page.find("method").get_attribute("aria-describedby")
    assert page.text(str(described))


# A server that asks for tokens


def test_a_token_is_asked_for_once(browser: webdriver.Chrome, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    if not link_sample(store, "wine"):
        pytest.skip("no trained weights for wine")
    (tmp_path / "tokens").write_text("the-right-one\n")
    with Server(store, f"--token-file={tmp_path / 'tokens'}") as server:
        page = Page(browser, f"http://127.0.0.1:{server.port}")
        browser.get(f"{page.url}/ui#wine")
        dialog = page.find("token")
        page.until(dialog.is_displayed)
        assert page.run("return document.activeElement.id") == "token-value"
        assert not page.find("token-note").is_displayed()
        page.find("token-value").send_keys("wrong", Keys.ENTER)
        page.until(page.find("token-note").is_displayed)
        page.find("token-value").send_keys(" the-right-one ", Keys.ENTER)
        page.until(lambda: not dialog.is_displayed() and page.find("main").is_displayed())
        assert page.predict()
        assert "$TOKEN" in page.text("curl")
        browser.refresh()
        page.until(lambda: page.find("main").is_displayed())
        assert page.predict()
        shown = browser.page_source + page.text("curl")
        assert "the-right-one" not in shown
        assert "the-right-one" not in server.log()
        # A token that no longer counts is asked for again, also by TorchServe's routes.
        page.run("sessionStorage.setItem('predictor-token', 'expired')")
        page.find("predict").click()
        page.until(page.find("token-note").is_displayed)
        page.find("token-value").send_keys(Keys.ESCAPE)
        page.until(lambda: page.find("error").is_displayed())
        assert "Token Authorization failed" in page.text("error")
    page.console()


# The API page


@pytest.mark.skipif(swagger_file("swagger-ui.css") is None, reason="fastapi-swagger is not installed")
def test_the_api_page_lists_and_calls_every_operation(page: Page, pages: Server) -> None:
    page.driver.get(f"{page.url}/docs/")
    document = pages.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    blocks = page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".opblock"))
    assert len(blocks) == len(operations)
    assert {block.get_attribute("id").rpartition("-")[2] for block in blocks} >= {"listModels", "ping"}
    operation = page.driver.find_element(By.CSS_SELECTOR, "[id$=-listModels]")
    page.run("arguments[0].click()", operation.find_element(By.CSS_SELECTOR, ".opblock-summary-control"))
    page.until(lambda: operation.find_elements(By.CSS_SELECTOR, ".execute"))
    clicked = 0.0

    def is_answered() -> bool:
        # Swagger UI shows the button before it has resolved the operation, and then cannot find it.
        nonlocal clicked
        if "docstrings" not in operation.text and time.monotonic() - clicked > 2:
            page.run("arguments[0].click()", operation.find_element(By.CSS_SELECTOR, ".execute"))
            clicked = time.monotonic()
        return "docstrings" in operation.text

    page.until(is_answered)
