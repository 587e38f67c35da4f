"""Small graphs: one that answers, one that never does, one that fails, one that asks, one that trims."""

import asyncio

from langchain_core.messages import AIMessage, RemoveMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import interrupt


async def answer(state: MessagesState):
    text = str(state["messages"][-1].content)
    if "traag" in text:  # slow enough to be killed in the middle of
        await asyncio.sleep(6)
    return {"messages": [AIMessage(content=f"Antwoord op: {text}")]}


async def hang(state: MessagesState):
    await asyncio.sleep(600)
    return {"messages": [AIMessage(content="te laat")]}


async def fail(state: MessagesState):
    raise RuntimeError("the graph fails on purpose")


async def ask(state: MessagesState):
    colour = interrupt({"question": "Which colour?", "choices": ["blue", "red"]})
    size = interrupt("Which size?")
    return {"messages": [AIMessage(content=f"{colour}, {size}")]}


async def trim(state: MessagesState):  # keeps its last three messages, as a chat with tools may
    text = str(state["messages"][-1].content)
    call = {"name": "look", "args": {}, "id": "1"}
    said = [
        AIMessage(content="", tool_calls=[call]),
        ToolMessage(content="rows", tool_call_id="1"),
        AIMessage(content=f"Antwoord op: {text}"),
    ]
    kept = [*state["messages"], *said][-3:]
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *kept]}


def graph(node):
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


agent = graph(answer)
hanging = graph(hang)
failing = graph(fail)
asking = graph(ask)
trimming = graph(trim)
