// Starts the modules. Every page works without them; each adds one thing and looks after itself.
import { start as startCopying } from "./copy.js";
import { start as startDialogs } from "./dialogs.js";
import { start as startForms } from "./forms.js";
import { start as startKeys } from "./keys.js";
import { start as startLive } from "./live.js";
import { start as startRange } from "./range.js";
import { start as startSaved } from "./saved.js";
import { start as startSelecting } from "./select.js";
import { start as startTheme } from "./theme.js";
import { start as startTimes } from "./times.js";

for (const start of [
  startTheme, startTimes, startCopying, startDialogs, startForms, startSelecting, startKeys, startRange, startSaved, startLive,
]) start();
