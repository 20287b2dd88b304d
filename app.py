"""The page as a Hugging Face Space, and as a plain script: `demo` is the page, served where Gradio's defaults say."""

from explorer.ui.app import build_app, launch_settings
from explorer.ui.desk import Desk
from explorer.ui.options import PageOptions

desk = Desk(PageOptions())
demo = build_app(desk=desk)

if __name__ == "__main__":
    desk.start()
    demo.launch(**launch_settings())
