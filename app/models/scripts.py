"""The scripts that have names: what `scripted:` and `scripted:PATH` say.

`scripted:` delegates to every member it can, side by side, and then tells a story, 50 words a
second. `scripted:PATH` plays a YAML or JSON file:

    pace_s: 0.02                    # seconds before each word of `say`; 0.02 if absent
    agents:                         # the first whose `match` stands in the instructions speaks
      - match: Storytelling Team    # optional; without it the entry is for every agent
        turns:                      # one a model call, counted from the last user text; the last
                                    # one is played again when there are more calls than turns
          - - call: delegate_task_to_member
              arguments: {member_id: editor, task: Mend it}
          - - think: Nearly done.
            - say: Once upon a time.
      - turns:
          - - pause: 1.5            # seconds of silence
            - say: Mended.
            - report: {input_tokens: 10, output_tokens: 5, total_tokens: 15}
            - end: length           # stop, length or refusal
          - - fail: model_error     # or model_incomplete, model_timeout

Which agent speaks, and at which turn, follows from the request alone: a model knows nothing else,
and any number of runs can share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain.errors import ConfigurationError, ModelFailed
from app.domain.events import FinishReason, Usage
from app.models.scripted import (
    Call,
    End,
    Fail,
    Pause,
    Report,
    Say,
    Script,
    ScriptedModel,
    Step,
    Think,
)
from app.ports import AssistantTurn, ModelRequest, ToolResult, ToolSpec, UserText

PACE_S: Final = 0.02


def open_scripted(name: str, known_as: str | None = None) -> ScriptedModel:
    """Return the model with the name `scripted:` or `scripted:PATH`, for teams to know by another.

    Raises `ConfigurationError` when the file cannot be read or is not a script.
    """
    path = name.removeprefix("scripted:")
    return ScriptedModel(read_script(Path(path)) if path else delegate_then_tell, known_as or name)


def delegate_then_tell(request: ModelRequest) -> Iterator[Step]:
    """Delegate to every member there is, then tell a story."""
    calls = [] if _since_user_text(request, ToolResult) else list(_delegations(request.tools))
    yield from calls if request.parallel_tool_calls else calls[:1]
    if not calls:
        yield from paced(STORY, PACE_S)


def paced(text: str, pace_s: float) -> Iterator[Step]:
    """Say a text word by word, each after a pause; white space goes with the word before it."""
    for word in re.findall(r"^\s+|\S+\s*", text):
        yield Pause(pace_s)
        yield Say(word)


def _delegations(tools: Sequence[ToolSpec]) -> Iterator[Call]:
    for tool in tools:
        fields = tool.parameters.get("properties", {})
        task = {"task": "Write your part of the story."} if "task" in fields else {}
        if tool.name == "delegate_task_to_member":
            for member_id in fields["member_id"]["enum"]:
                yield Call(tool.name, {"member_id": member_id} | task)
        elif tool.name == "delegate_task_to_members":
            yield Call(tool.name, task)


def _since_user_text(request: ModelRequest, kind: type[AssistantTurn] | type[ToolResult]) -> int:
    """Count the items since the last user text: what came before is another run's."""
    recent = takewhile(lambda item: not isinstance(item, UserText), reversed(request.conversation))
    return sum(isinstance(item, kind) for item in recent)


# --- the script file ------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _FileUsage(_Strict):
    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    total_tokens: Annotated[int, Field(ge=0)] = 0


class _FileStep(_Strict):
    say: str | None = None
    think: Annotated[str, Field(min_length=1)] | None = None
    call: Annotated[str, Field(min_length=1)] | None = None
    arguments: str | Mapping[str, Any] | None = None
    pause: Annotated[float, Field(ge=0)] | None = None
    report: _FileUsage | None = None
    end: FinishReason | None = None
    fail: Literal["model_error", "model_incomplete", "model_timeout"] | None = None

    @model_validator(mode="after")
    def _is_one_step(self) -> _FileStep:
        kinds = self.model_fields_set - {"arguments"}
        if len(kinds) != 1 or (self.arguments is not None and self.call is None):
            known = "say, think, call (with arguments), pause, report, end, fail"
            raise ValueError(f"a step has exactly one of: {known}")
        return self

    def steps(self, pace_s: float) -> Iterator[Step]:
        if self.say is not None:
            yield from paced(self.say, pace_s)
        elif self.think is not None:
            yield Think(self.think)
        elif self.call is not None:
            yield Call(self.call, "{}" if self.arguments is None else self.arguments)
        elif self.pause is not None:
            yield Pause(self.pause)
        elif self.report is not None:
            yield Report(Usage(**self.report.model_dump()))
        elif self.end is not None:
            yield End(self.end)
        elif self.fail is not None:
            yield Fail(ModelFailed(self.fail, "the script says that the model fails here"))


class _FileAgent(_Strict):
    match: str = ""
    turns: Annotated[tuple[tuple[_FileStep, ...], ...], Field(min_length=1)]


class _File(_Strict):
    pace_s: Annotated[float, Field(ge=0)] = PACE_S
    agents: Annotated[tuple[_FileAgent, ...], Field(min_length=1)]

    def play(self, request: ModelRequest) -> Iterator[Step]:
        agent = next((one for one in self.agents if one.match in request.instructions), None)
        if agent is None:
            yield Fail(ModelFailed("model_error", "the script has no entry for this agent"))
            return
        number = _since_user_text(request, AssistantTurn)
        for step in agent.turns[min(number, len(agent.turns) - 1)]:
            yield from step.steps(self.pace_s)


def read_script(path: Path) -> Script:
    """Read a script file, YAML or JSON. Raises `ConfigurationError` with the key and the reason."""
    try:
        return _File.model_validate(yaml.safe_load(path.read_text("utf-8"))).play
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the script cannot be read") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: this is not YAML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {key}: {first['msg']}") from error


STORY: Final = """\
In the valley of Ember there lived a young dragon named Pixel, who was clumsy with fire but quick \
with riddles. While her cousins practised roaring on the cliffs, she sat in the ruined library and \
turned old pages with the very tips of her claws.

One rainy evening a traveller left a strange machine there. It hummed, its face glowed, and when \
Pixel touched it a single line appeared: hello, who are you? She thought for a long time. Then she \
typed, one careful letter after the other, that she was a dragon, and that she wished to learn.

The machine was a patient teacher. It taught her that a great task is only many small ones in a \
row, that a mistake is a message, and that a loop which never ends will make anybody tired. Her \
first program counted sheep. Her second one counted them correctly. Her third one rang a bell \
whenever the river rose, and because of it the village by the water slept in peace.

In the autumn the flood came. The bell rang, the people climbed the hill, and not one of them was \
lost. They looked up and saw the dragon in the library window, her face lit by the glow of the \
machine, and for the first time nobody ran away. An old woman brought her bread and asked whether \
she might see how it was done.

So Pixel began to teach. The children came first, then the farmers, and at last her own cousins, \
who had grown bored with roaring. They wrote programs that watched over the harvest, that guided \
lost travellers home, and that told stories to those who could not sleep. And when somebody asked \
Pixel what the secret was, she always smiled and gave the same answer: read the message, change \
one small thing, and try again."""
